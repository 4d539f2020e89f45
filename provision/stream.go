package provision

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// Disk opens the first n bytes of a guest's output disk, wherever that lies. A shorter disk gives fewer.
type Disk func(ctx context.Context, n int64) (io.ReadCloser, error)

// CopyStream writes what the one member of the stream s on the disk holds to w. Only after a nil return may the caller
// believe what it wrote.
func CopyStream(ctx context.Context, disk Disk, s wire.Stream, w io.Writer) error {
	r, err := openStream(ctx, disk, s)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.next(); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(w, r, make([]byte, 1<<20)); err != nil {
		if damaged := r.damage(err); damaged != nil {
			return damaged
		}
		return fault.New(fault.Host, "keep what the guest wrote", "%w", err)
	}
	return r.end()
}

// received is a stream that a guest speaks of. What it says is not believed before end.
type received struct {
	*stream.Reader
	disk *diskReader
	told func() (wire.Stream, error) // what the guest says of it; to be asked when it has been read
	m    *stream.Member              // the one that comes next; nil: read it
}

func openStream(ctx context.Context, disk Disk, s wire.Stream) (*received, error) {
	if s.Size < 0 {
		return nil, fault.New(fault.Guest, readDisk, "the guest speaks of %d bytes", s.Size)
	}
	r, err := disk(ctx, s.Size)
	if err != nil {
		return nil, fault.New(fault.Host, readDisk, "%w", err)
	}
	told := func() (wire.Stream, error) { return s, nil }
	return newReceived(ctx, io.LimitReader(r, s.Size), r, told), nil
}

func newReceived(ctx context.Context, r io.Reader, c io.Closer, told func() (wire.Stream, error)) *received {
	d := &diskReader{Closer: c, ctx: ctx, r: bufio.NewReaderSize(r, 256<<10)}
	return &received{Reader: stream.NewReader(d), disk: d, told: told}
}

const readDisk = "read output disk"

// diskReader keeps the host's own trouble with a disk apart from what is wrong with what lies on it.
type diskReader struct {
	io.Closer
	ctx context.Context
	r   io.Reader
	err error
}

func (d *diskReader) Read(p []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		d.err = context.Cause(d.ctx)
		return 0, err
	}
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = fault.New(fault.Host, readDisk, "%w", err)
	}
	return n, err
}

func (r *received) Close() error { return r.disk.Close() }

// damage is the fault behind an error that the stream gave: the host's, or the guest's. It is nil of any other error.
func (r *received) damage(err error) error {
	if r.disk.err != nil {
		return r.disk.err
	}
	if bad, ok := errors.AsType[*stream.Error](err); ok {
		return fault.New(fault.Guest, readDisk, "%w", bad)
	}
	return nil
}

// peek is the next member, which stays the next; nil after the last.
func (r *received) peek() (*stream.Member, error) {
	if r.m != nil {
		return r.m, nil
	}
	m, err := r.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, r.damage(err)
	}
	r.m = m
	return m, nil
}

// next takes the next member; that there is none is the guest's fault.
func (r *received) next() (*stream.Member, error) {
	m, err := r.peek()
	if err == nil && m == nil {
		return nil, fault.New(fault.Guest, readDisk, "the stream has fewer members than it should")
	}
	r.m = nil
	return m, err
}

// end checks that nothing follows, and that the stream is the one that the guest spoke of.
func (r *received) end() error {
	switch m, err := r.peek(); {
	case err != nil:
		return err
	case m != nil:
		return fault.New(fault.Guest, readDisk, "%q is on the disk, and nobody asked for it", m.Path)
	}
	told, err := r.told()
	if err != nil {
		return err
	}
	if t := r.Total(); t.Size != told.Size || t.Digest != told.Digest {
		return fault.New(fault.Guest, readDisk,
			"the stream on it has %d bytes with digest %016x, the guest wrote %d with %016x",
			t.Size, t.Digest, told.Size, told.Digest)
	}
	return nil
}
