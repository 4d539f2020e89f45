// Package store keeps objects by their SHA-256 on a disk that several processes share.
//
// It knows files: how one comes to be there whole or not at all (temporary file, fsync, rename, fsync of the folder),
// how it is verified on its way in and on its way out, who may write at the same time (flock), and what may be thrown
// away. It refuses to know what an object means: a package, an image and a log are the same to it. It imports nothing
// of the house but fault.
//
// The folder:
//
//	version           the format, one line
//	lock              flock'ed: shared by whoever pins, exclusive by Collect
//	objects/ab/ab12…  the objects, read-only, named by their digest
//	refs/KIND/KEY     small JSON values under a name
//	partial/DIGEST    downloads that can be resumed, each flock'ed by its writer
//	tmp/              files on their way in, each flock'ed by its owner; what nobody owns is swept by Open
//	damaged/          objects that no longer matched their name
//	claims/           a flock'ed file for each name that somebody is making something for; swept as tmp/ is
package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// versionLine is the content of the version file. Another first word is another program's folder.
const versionLine = "belljar store 1\n"

var folders = []string{"objects", "refs", "partial", "tmp", "damaged", "claims"}

// Store is an open store. All its methods may be called at the same time, from several goroutines and processes.
type Store struct{ dir string }

// Open opens the store in dir and makes it if it is not there. What processes that died left is removed.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, hostFault("open store", dir, -1, err)
	}
	if err := s.layOut(); err != nil {
		return nil, err
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, hostFault("open store", dir, -1, &fs.PathError{Op: "write", Path: dir, Err: err})
	}
	s.sweep()
	return s, nil
}

// Dir is the folder that holds the store.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// layOut checks the version file, or writes it and the folders. Two processes that make the same store take turns.
func (s *Store) layOut() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return hostFault("open store", s.dir, -1, err)
	}
	defer d.Close()
	if err := flock(d, unix.LOCK_EX); err != nil {
		return hostFault("lock store", s.dir, -1, err)
	}
	got, err := os.ReadFile(s.path("version"))
	switch {
	case err == nil && string(got) == versionLine:
	case err == nil && bytes.HasPrefix(got, []byte("belljar store ")):
		return fault.New(fault.Input, "open store", "%s has format %q; this belljar reads %q",
			s.dir, trim(got), trim([]byte(versionLine))).
			WithRemedy("Use the belljar that made it, or another folder.")
	case err == nil:
		return notAStore(s.dir, fmt.Sprintf("its file 'version' says %q", trim(got)))
	case !errors.Is(err, fs.ErrNotExist):
		return hostFault("open store", s.dir, -1, err)
	default:
		if names, _ := d.Readdirnames(-1); !ours(names) {
			return notAStore(s.dir, "it holds files but no file 'version'")
		}
	}
	for _, f := range folders {
		if err := os.MkdirAll(s.path(f), 0o755); err != nil {
			return hostFault("open store", s.dir, -1, err)
		}
	}
	if got != nil {
		return nil
	}
	return s.writeFile(s.path("version"), []byte(versionLine))
}

// ours reports whether a folder without a version file can be an empty one, or one whose maker was killed in layOut.
func ours(names []string) bool {
	known := map[string]bool{"lock": true, "lost+found": true}
	for _, f := range folders {
		known[f] = true
	}
	for _, n := range names {
		if !known[n] {
			return false
		}
	}
	return true
}

func notAStore(dir, why string) error {
	return fault.New(fault.Input, "open store", "%s is not a store: %s", dir, why).
		WithRemedy("Name an empty folder, or one that does not exist yet.")
}

func trim(b []byte) string { return string(bytes.TrimSpace(b[:min(len(b), 40)])) }

// Has reports whether the object is there. It does not look into it: Open and Verify do.
func (s *Store) Has(d Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// Path is where the object is, or would be. Whoever hands the path to another program calls Verify first.
func (s *Store) Path(d Digest) string {
	if d.valid() != nil {
		return s.path("objects", "none", "none") // never a path that a bad digest chose
	}
	return s.path("objects", string(d[:2]), string(d))
}

// Size is the object's length in bytes; an error with fs.ErrNotExist in its chain if it is not there.
func (s *Store) Size(d Digest) (int64, error) {
	if err := d.valid(); err != nil {
		return 0, err
	}
	fi, err := os.Stat(s.Path(d))
	if err != nil {
		return 0, s.readFault(d, err)
	}
	return fi.Size(), nil
}

// readFault explains why an object cannot be read.
func (s *Store) readFault(d Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Input, "store", "object %s is not in the store %s: %w", d, s.dir, fs.ErrNotExist).
			WithRemedy("Run belljar fetch (for what is downloaded) or belljar build (for what is made).")
	}
	return hostFault("read object", s.dir, -1, err)
}
