// Package atomicfile knows how a file is replaced in one step: readers see the old content or the new one, and a crash
// leaves no half. It refuses to know what is in the file and whose fault a failure is: it imports nothing of the house.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data at path.
func Write(path string, data []byte, mode fs.FileMode) error {
	return WriteFunc(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc puts what fill writes at path, by a temporary file in the same folder: it is synced before it gets its
// name, and the folder after. Where fill fails, path stays what it was.
func WriteFunc(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	return FileFunc(path, mode, func(f *os.File) error { return fill(f) })
}

// FileFunc is WriteFunc for what is not written from its start to its end, or has holes.
func FileFunc(path string, mode fs.FileMode, fill func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after the rename
	err = fill(f)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir last through a power cut: fsync(2) of a file does not cover its entry.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
