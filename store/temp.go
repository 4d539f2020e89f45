package store

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Temp is a file in the store's tmp folder, so on the objects' own file system: Commit renames it, no byte is copied
// and holes stay holes. It is the caller's to write; other programs may write it by its Name. While its owner lives
// no other process sweeps it.
type Temp struct {
	*os.File
	s    *Store
	lock *os.File // a descriptor of its own: closing File must not end the lock
}

// TempFile makes one; pattern is os.CreateTemp's.
func (s *Store) TempFile(pattern string) (*Temp, error) {
	for {
		f, err := os.CreateTemp(s.path("tmp"), pattern)
		if err != nil {
			return nil, hostFault("make temporary file", s.dir, -1, err)
		}
		lock, err := own(f.Name())
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			return nil, hostFault("lock temporary file", s.dir, -1, err)
		}
		if lock != nil {
			return &Temp{f, s, lock}, nil
		}
		f.Close() // swept between its birth and our lock: once more
	}
}

// Commit moves the file into the store under its own digest. The Temp is spent.
func (t *Temp) Commit(ctx context.Context) (Digest, int64, error) { return t.commit(ctx, "", -1) }

func (t *Temp) commit(ctx context.Context, want Digest, size int64) (Digest, int64, error) {
	defer t.Discard()
	return t.s.putFile(ctx, t.Name(), want, size)
}

// Discard removes the file. After Commit it does nothing, so that it can be deferred.
func (t *Temp) Discard() {
	if t.lock == nil {
		return
	}
	if linked(t.lock, t.Name()) {
		os.Remove(t.Name())
	}
	t.Close()
	t.lock.Close()
	t.lock = nil
}

// TempDir makes a private folder inside the store's file system; remove deletes it with all it holds.
func (s *Store) TempDir(pattern string) (dir string, remove func(), err error) {
	for {
		dir, err := os.MkdirTemp(s.path("tmp"), pattern)
		if err != nil {
			return "", nil, hostFault("make temporary folder", s.dir, -1, err)
		}
		lock, err := own(dir)
		if err != nil {
			os.Remove(dir)
			return "", nil, hostFault("lock temporary folder", s.dir, -1, err)
		}
		if lock != nil {
			return dir, func() { os.RemoveAll(dir); lock.Close() }, nil
		}
	}
}

// own locks path; nil without an error means that it is gone, or being swept.
func own(path string) (*os.File, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	if !linked(f, path) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// sweep removes what processes left that are gone: temporary files and claims, whose locks came with them and are
// free, and downloads that nobody has gone on with for long. Best effort.
func (s *Store) sweep() {
	for _, folder := range []string{"tmp", "claims"} {
		s.sweepFolder(folder, func(fs.FileInfo) bool { return true })
	}
	s.sweepFolder("partial", func(fi fs.FileInfo) bool { return time.Since(fi.ModTime()) > partialAge })
}

// partialAge is how long a download that stopped half-way is worth keeping.
const partialAge = 14 * 24 * time.Hour

// sweepFolder removes what in a folder fits and is locked by nobody.
func (s *Store) sweepFolder(folder string, fits func(fs.FileInfo) bool) {
	names, _ := filepath.Glob(s.path(folder, "*"))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil && fits(fi) && flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil && linked(f, name) {
			os.RemoveAll(name)
		}
		f.Close()
	}
}
