package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// Collected says what Collect removed.
type Collected struct {
	Objects int
	Bytes   int64 // on the disk: holes do not count
}

// Collect removes every object that roots does not name, partial downloads of such objects, and damaged objects.
// roots runs after all pins are gone and before any new one, so that it sees every Bind. While somebody holds a pin
// Collect is a Host fault at once.
func (s *Store) Collect(ctx context.Context, roots func() (map[Digest]bool, error)) (Collected, error) {
	var c Collected
	lock, err := s.openLock()
	if err != nil {
		return c, err
	}
	defer lock.Close()
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return c, fault.New(fault.Host, "clean store", "another belljar is using %s", s.dir).
			WithRemedy("Wait for its run to end, then clean again.")
	} else if err != nil {
		return c, hostFault("clean store", s.dir, -1, err)
	}
	keep, err := roots()
	if err != nil {
		return c, err
	}
	remove := func(path string, fi fs.FileInfo) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return hostFault("clean store", s.dir, -1, err)
		}
		c.Objects++
		c.Bytes += onDisk(fi)
		return nil
	}
	for _, folder := range []string{"objects", "partial", "damaged"} {
		err := s.walk(ctx, folder, func(path string, d Digest, fi fs.FileInfo) error {
			if (keep[d] && folder != "damaged") || (folder == "partial" && busy(path)) {
				return nil
			}
			return remove(path, fi)
		})
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// busy reports whether somebody is writing a partial download.
func busy(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Checked is the result of Check.
type Checked struct {
	Objects int
	Bytes   int64
	Damaged []Digest // moved aside
}

// Check verifies every object and moves the damaged ones aside. progress, which may be nil, is called after each.
func (s *Store) Check(ctx context.Context, progress func(done, total int64)) (Checked, error) {
	var c Checked
	u, err := s.Usage()
	if err != nil {
		return c, err
	}
	err = s.walk(ctx, "objects", func(_ string, d Digest, fi fs.FileInfo) error {
		err := s.Verify(ctx, d)
		_, bad := errors.AsType[*Mismatch](err)
		switch {
		case bad:
			c.Damaged = append(c.Damaged, d)
		case errors.Is(err, fs.ErrNotExist): // collected meanwhile
			return nil
		case err != nil:
			return err
		}
		c.Objects++
		c.Bytes += fi.Size()
		if progress != nil {
			progress(c.Bytes, u.Bytes)
		}
		return nil
	})
	return c, err
}

// Usage says what the store takes.
type Usage struct {
	Objects int
	Bytes   int64 // the objects' lengths
	Disk    int64 // what the objects take on the disk: holes do not count
	Waste   int64 // on the disk: damaged objects and partial downloads
	Free    int64 // left on the store's file system
}

// Usage adds up the store.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	ctx := context.Background()
	err := s.walk(ctx, "objects", func(_ string, _ Digest, fi fs.FileInfo) error {
		u.Objects++
		u.Bytes += fi.Size()
		u.Disk += onDisk(fi)
		return nil
	})
	for _, folder := range []string{"partial", "damaged"} {
		err = errors.Join(err, s.walk(ctx, folder, func(_ string, _ Digest, fi fs.FileInfo) error {
			u.Waste += onDisk(fi)
			return nil
		}))
	}
	if err != nil {
		return u, err
	}
	if u.Free, err = freeBytes(s.dir); err != nil {
		return u, hostFault("store usage", s.dir, -1, err)
	}
	return u, nil
}

// walk visits the files in a folder that are named by a digest, in the order of their names. Files that vanish
// meanwhile are another process's doing.
func (s *Store) walk(ctx context.Context, folder string, visit func(string, Digest, fs.FileInfo) error) error {
	return filepath.WalkDir(s.path(folder), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return hostFault("walk store", s.dir, -1, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if d := Digest(e.Name()); !e.IsDir() && d.valid() == nil {
			fi, err := e.Info()
			if err == nil {
				return visit(path, d, fi)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return hostFault("walk store", s.dir, -1, err)
			}
		}
		return nil
	})
}

func onDisk(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512 // stat(2): always units of 512
	}
	return fi.Size()
}
