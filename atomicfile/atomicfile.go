// Package atomicfile knows how a file is replaced in one step: readers see the old content or the new one, and a crash
// leaves no half. It refuses to know what is in the file and whose fault a failure is: it imports nothing of the house.
//
// What is being written has no name (O_TMPFILE, open(2)): should the process be killed, it is gone with it. A file that
// replaces another needs a name for the moment of the rename, and where a file system knows no files without a name
// it has one from the start. Such a name is '.NAME.RANDOM', its owner holds a lock on it, and one whose owner was
// killed is removed by whoever writes NAME next.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Write puts data at path.
func Write(path string, data []byte, mode fs.FileMode) error {
	return WriteFunc(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc puts what fill writes at path: it is synced before it gets its name, and the folder after. Where fill
// fails, path stays what it was.
func WriteFunc(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	return FileFunc(path, mode, func(f *os.File) error { return fill(f) })
}

// FileFunc is WriteFunc for what is not written from its start to its end, or has holes. The file's name is for
// messages: nothing need be there.
func FileFunc(path string, mode fs.FileMode, fill func(*os.File) error) error {
	sweep(path)
	f, named, err := create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if named {
			os.Remove(f.Name())
		}
	}()
	err = fill(f)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	if !named {
		if err := link(f, path); err == nil {
			return errors.Join(f.Close(), SyncDir(filepath.Dir(path)))
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := link(f, f.Name()); err != nil {
			return err
		}
		named = true
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	named = false
	return errors.Join(f.Close(), SyncDir(filepath.Dir(path))) // the lock ends here, when the name is the final one
}

// Unnamed opens a file in dir that has no name, and is gone when it is closed or the process is killed.
func Unnamed(dir string) (*os.File, error) {
	name := filepath.Join(dir, "unnamed")
	if f, err := withoutName(dir, name); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, "unnamed-*")
	if err != nil {
		return nil, err
	}
	// It may be gone already: others sweep folders of temporary files.
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openUnnamed needs a file system that knows files without a name (ext4, XFS, Btrfs, tmpfs do). name is for messages.
func openUnnamed(dir, name string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// withoutName is openUnnamed; a test takes it away.
var withoutName = openUnnamed

// link gives a file without a name its first, which nothing else may have: see AT_EMPTY_PATH in open(2), whose other
// way needs no privilege.
func link(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: path, Err: err}
	}
	return nil
}

// create opens a file in path's folder: without a name or, where that cannot be had, with a temporary one. Either way
// it is locked, as far as the file system knows locks.
func create(path string) (f *os.File, named bool, err error) {
	dir := filepath.Dir(path)
	if f, err = withoutName(dir, temporary(path)); err == nil {
		_ = lock(f)
		return f, false, nil
	}
	for range 8 {
		f, err = os.OpenFile(temporary(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, false, err
		}
		if err = lock(f); !errors.Is(err, unix.EWOULDBLOCK) && isAt(f, f.Name()) {
			return f, true, nil
		}
		f.Close() // swept between its birth and our lock: once more
	}
	return nil, false, fmt.Errorf("temporary file for %s: %w", path, fs.ErrExist)
}

// marker is what the temporary names of files have, and names that people and editors give have not.
const marker = ".belljar-"

// temporary is a new name in path's folder.
func temporary(path string) string {
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails (crypto/rand)
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+marker+hex.EncodeToString(r[:]))
}

// sweep removes the temporary files for path whose owners are gone: their locks are free. Best effort.
func sweep(path string) {
	dir, prefix := filepath.Dir(path), "."+filepath.Base(path)+marker
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // whoever writes there says so
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lock(f) == nil && isAt(f, name) {
			os.Remove(name)
		}
		f.Close()
	}
}

// lock takes flock(2) on a file, if nobody has it.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// isAt reports whether name still names the open file f.
func isAt(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// SyncDir makes the names in dir last through a power cut: fsync(2) of a file does not cover its entry.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
