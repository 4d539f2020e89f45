package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// Write puts r at path, in one step. A record that Validate refuses is not written.
func (r *Record) Write(path string) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("write record %s: %w", path, err)
	}
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return fault.New(fault.Host, "write record", "%w", err)
	}
	return nil
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
			return fault.New(fault.Input, "check artifact", "%s has SHA-256 %s, the record says %s",
				path, got, s.Digest.SHA256).
				WithRemedy("build it again or fetch it again: this file is not the one that was built and booted")
		}
		known = append(known, s.Name)
	}
	return fault.New(fault.Input, "check artifact", "%s (SHA-256 %s) is none of the record's artifacts: %s",
		path, got, strings.Join(known, ", ")).
		WithRemedy("give the record that belongs to this file")
}
