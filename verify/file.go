package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Write puts r at path, atomically: temp file, fsync, rename. A record that Validate refuses is not written.
func (r *Record) Write(path string) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("write record %s: %w", path, err)
	}
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := writeAtomic(path, data); err != nil {
		return fault.New(fault.Host, "write record", "%w", err)
	}
	return nil
}

func writeAtomic(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// largest is far above any record; a file above it is something else.
const largest = 64 << 20

// Read reads and checks the record at path.
func Read(path string) (*Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Input, "read record", "%w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err != nil {
		return nil, fault.New(fault.Host, "read record", "%w", err)
	}
	if len(data) > largest {
		return nil, fault.New(fault.Input, "read record", "%s: more than %d MiB, which is no record", path, largest>>20)
	}
	r, err := Parse(data)
	if err != nil {
		return nil, fault.New(fault.Input, "read record", "%s: %w", path, err).
			WithRemedy("give the record.json that belljar build wrote beside the artifact, unedited")
	}
	return r, nil
}

// CheckArtifact reports whether the file at path is a subject of r. Its name does not matter, its bytes do; when they
// are no subject's, the error says what the record has under that name.
func CheckArtifact(r *Record, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Input, "check artifact", "%w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fault.New(fault.Host, "check artifact", "read %s: %w", path, err)
	}
	got := hex.EncodeToString(h.Sum(nil))
	if slices.ContainsFunc(r.Subject, func(s Resource) bool { return s.Digest.SHA256 == got }) {
		return nil
	}
	var known []string
	for _, s := range r.Subject {
		if s.Name == filepath.Base(path) {
			return fault.New(fault.Input, "check artifact", "%s has SHA-256 %s, the record says %s", path, got, s.Digest.SHA256).
				WithRemedy("build it again or fetch it again: this file is not the one that was built and booted")
		}
		known = append(known, s.Name)
	}
	return fault.New(fault.Input, "check artifact", "%s (SHA-256 %s) is none of the record's artifacts: %s",
		path, got, strings.Join(known, ", ")).
		WithRemedy("give the record that belongs to this file")
}
