package debian

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// The compressions of deb(5), by the suffix of the member's name; "" is none. dpkg reads bzip2 for data only.
var (
	controlCompressions = []string{"", "gz", "xz", "zst"}
	dataCompressions    = []string{"", "gz", "xz", "zst", "bz2"}
)

// maxWindow bounds the memory that a stream may ask for. xz -9 asks for 64 MiB, zstd --ultra -22 for 128 MiB.
const (
	maxXZDictionary = 64 << 20
	maxZstdWindow   = 128 << 20
)

// decompress reads r through the named decompressor. Close frees it and leaves r alone.
//
// xz checks the dictionary's size before it makes room for it. therootcompany/xz takes three quarters of the CPU time
// of ulikunitz/xz.
func decompress(r io.Reader, compression string) (io.ReadCloser, error) {
	switch compression {
	case "":
		return io.NopCloser(r), nil
	case "gz":
		return gzip.NewReader(bufio.NewReader(r))
	case "bz2":
		return io.NopCloser(bzip2.NewReader(bufio.NewReader(r))), nil
	case "xz":
		z := xzReaders.Get().(*xz.Reader)
		if err := z.Reset(r); err != nil {
			return nil, err
		}
		return &pooled{Reader: z, free: func() { xzReaders.Put(z) }}, nil
	case "zst":
		z := zstdReaders.Get().(*zstd.Decoder)
		if err := z.Reset(r); err != nil {
			return nil, err
		}
		return &pooled{Reader: z, free: func() { _ = z.Reset(nil); zstdReaders.Put(z) }}, nil
	}
	return nil, fmt.Errorf("compression %q is unknown", compression)
}

// Decompressors at rest. Their dictionaries, 8 MiB as a rule, are worth keeping from one package to the next: making
// and zeroing them took a seventh of the time, and left hundreds of MiB for the garbage collector to find.
var (
	xzReaders = sync.Pool{New: func() any {
		z, _ := xz.NewReader(nil, maxXZDictionary) // an error is of the stream's header, and there is no stream yet
		return z
	}}
	zstdReaders = sync.Pool{New: func() any {
		z, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		return z // the options are in their ranges
	}}
)

// pooled gives its decompressor back when it is closed.
type pooled struct {
	io.Reader
	free func()
}

func (p *pooled) Read(b []byte) (int, error) {
	if p.free == nil {
		return 0, fs.ErrClosed
	}
	return p.Reader.Read(b)
}

func (p *pooled) Close() error {
	if p.free != nil {
		p.free()
		p.free = nil
	}
	return nil
}

// source remembers a failure of the reader below, so that it is told apart from a malformed stream.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == nil || err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	s.err = err
	if errors.Is(err, io.EOF) { // a connection's end, say; that of the stream is io.EOF itself (io.Reader)
		s.err = fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, err.Error())
	}
	return n, s.err
}

// bounded fails where a stream unpacks to more than it may, instead of ending it quietly as io.LimitReader does.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errors.New("it unpacks to more than its bound: a decompression bomb")
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// drain reads to the end, as far as a tar archive's zero padding may reach.
func drain(r io.Reader) error {
	n, err := io.CopyN(io.Discard, r, 1<<20)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return noEOF(err)
	}
	return fmt.Errorf("more than %d bytes follow the end of the tar archive", n)
}
