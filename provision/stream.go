package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// Disk opens the first n bytes of a guest's output disk, wherever that lies. A shorter disk gives fewer.
type Disk func(ctx context.Context, n int64) (io.ReadCloser, error)

// CopyStream writes the archive s on the disk to w as it is, and compares its SHA-256 with what the guest said. Only
// after a nil return may the caller believe what it wrote.
func CopyStream(ctx context.Context, disk Disk, s wire.Stream, w io.Writer) error {
	sum, err := openStream(ctx, disk, s)
	if err != nil {
		return err
	}
	defer sum.Close()
	if _, err := io.CopyBuffer(w, sum, make([]byte, 1<<20)); err != nil {
		return fault.New(fault.Host, "read output disk", "%w", err)
	}
	return sum.check()
}

// openStream opens an archive that the guest speaks of. What it says is not believed until check.
func openStream(ctx context.Context, disk Disk, s wire.Stream) (*summed, error) {
	if s.Size < 0 {
		return nil, fault.New(fault.Guest, "read output disk", "the guest speaks of %d bytes", s.Size)
	}
	r, err := disk(ctx, s.Size)
	if err != nil {
		return nil, fault.New(fault.Host, "read output disk", "%w", err)
	}
	return &summed{Closer: r, ctx: ctx, want: s, r: io.LimitReader(r, s.Size), h: sha256.New()}, nil
}

// summed hashes and counts what is read through it, until ctx ends.
type summed struct {
	io.Closer
	ctx  context.Context
	want wire.Stream
	r    io.Reader
	h    hash.Hash
	n    int64
}

func (s *summed) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// check compares what was read with what the guest said it wrote.
func (s *summed) check() error {
	if got := hex.EncodeToString(s.h.Sum(nil)); s.n != s.want.Size || got != s.want.SHA256 {
		return fault.New(fault.Guest, "read output disk",
			"the archive on it has %d bytes with SHA-256 %s, the guest wrote %d with %s",
			s.n, got, s.want.Size, s.want.SHA256)
	}
	return nil
}
