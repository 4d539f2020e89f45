package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// CopyStream writes the archive s on the raw disk file to w as it is, and compares its SHA-256 with what the guest
// said. Only after a nil return may the caller believe what it wrote.
func CopyStream(ctx context.Context, disk string, s wire.Stream, w io.Writer) error {
	f, err := os.Open(disk)
	if err != nil {
		return fault.New(fault.Host, "read output disk", "%w", err)
	}
	defer f.Close()
	sum := &summed{ctx: ctx, r: io.LimitReader(f, s.Size), h: sha256.New()}
	if _, err := io.CopyBuffer(w, sum, make([]byte, 1<<20)); err != nil {
		return fault.New(fault.Host, "read output disk", "%w", err)
	}
	return sum.check(s)
}

// check compares what was read with what the guest said it wrote.
func (s *summed) check(want wire.Stream) error {
	if got := hex.EncodeToString(s.h.Sum(nil)); s.n != want.Size || got != want.SHA256 {
		return fault.New(fault.Guest, "read output disk",
			"the archive on it has %d bytes with SHA-256 %s, the guest wrote %d with %s",
			s.n, got, want.Size, want.SHA256)
	}
	return nil
}
