package provision

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// ReadStream hands every member of the archive s on the disk to each, then compares the SHA-256 of the whole with what
// the guest said. Only after a nil return may the caller believe what each has seen.
func ReadStream(ctx context.Context, disk Disk, s wire.Stream, each func(*tar.Header, io.Reader) error) error {
	sum, err := openStream(ctx, disk, s)
	if err != nil {
		return err
	}
	defer sum.Close()
	walkErr := eachMember(sum, each)
	if err := ctx.Err(); err != nil {
		return err
	}
	// A member that cannot be parsed and a callback's complaint are often only the symptom of a wrong stream.
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return fault.New(fault.Host, "read output disk", "%w", err)
	}
	if err := sum.check(); err != nil {
		return err
	}
	return walkErr
}

func eachMember(r io.Reader, each func(*tar.Header, io.Reader) error) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Guest, "read output disk", "archive: %w", err)
		}
		if err := each(h, tr); err != nil {
			return err
		}
	}
}

// ReadOutputs hands every output of a stage to put, which keeps it and answers with the SHA-256 of what it kept.
// Names, sizes and hashes must be the guest's, in its order; put's hash must be the same once more.
func ReadOutputs(ctx context.Context, disk Disk, res wire.Result,
	put func(name string, size int64, r io.Reader) (sha256 string, err error)) error {
	for _, want := range res.Files {
		if err := wire.CheckPath(want.Path); err != nil {
			return fault.New(fault.Guest, "read outputs", "%w", err)
		}
	}
	if len(res.Files) == 0 {
		return nil
	}
	n := 0
	err := ReadStream(ctx, disk, res.Stream, func(h *tar.Header, r io.Reader) error {
		if n == len(res.Files) {
			return fault.New(fault.Guest, "read outputs", "%q is on the disk but not in the guest's list", h.Name)
		}
		want := res.Files[n]
		n++
		return readOutput(h, r, want, put)
	})
	if err == nil && n < len(res.Files) {
		return fault.New(fault.Guest, "read outputs", "%q is in the guest's list but not on the disk",
			res.Files[n].Path)
	}
	return err
}

func readOutput(h *tar.Header, r io.Reader, want wire.File,
	put func(name string, size int64, r io.Reader) (string, error)) error {
	switch {
	case h.Typeflag != tar.TypeReg:
		return fault.New(fault.Guest, "read outputs", "%q is not a regular file (tar type %q)", h.Name, h.Typeflag)
	case h.Name != want.Path:
		return fault.New(fault.Guest, "read outputs", "the disk has %q where the guest's list has %q",
			h.Name, want.Path)
	case h.Size != want.Size:
		return fault.New(fault.Guest, "read outputs", "%q has %d bytes, the guest counted %d",
			h.Name, h.Size, want.Size)
	}
	sum := sha256.New()
	kept, err := put(h.Name, h.Size, io.TeeReader(r, sum))
	if err != nil {
		return fmt.Errorf("keep output %s: %w", h.Name, err)
	}
	// What put left unread still belongs to the file.
	if _, err := io.Copy(sum, r); err != nil {
		return fault.New(fault.Guest, "read outputs", "%q: %w", h.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return fault.New(fault.Guest, "read outputs", "%q has SHA-256 %s, the guest hashed %s",
			h.Name, got, want.SHA256)
	}
	if kept != want.SHA256 {
		return fault.New(fault.Host, "keep output", "%q was kept with SHA-256 %s, but has %s",
			h.Name, kept, want.SHA256)
	}
	return nil
}
