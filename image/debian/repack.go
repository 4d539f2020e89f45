package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// RepackForm names what Repack writes. It changes whenever that would come out differently.
const RepackForm = "control.tar data.tar.zst 1"

// Repack writes a package once more while it is read: the same members, but compressed for speed, as an ordinary .deb
// that any reader takes. zstd's fastest level unpacks some ten times faster than xz; the package grows by a third.
type Repack struct {
	d    *Deb
	out  io.WriterAt
	off  int64
	data int64 // where the header of data.tar.zst lies
	zstd *zstd.Encoder
	err  error // the first failure to write: reading goes on without it
}

// repackWindow bounds what whoever reads the form must hold in memory.
const repackWindow = 1 << 20

var zstdWriters = sync.Pool{New: func() any {
	z, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(repackWindow))
	return z // the options are in their ranges
}}

// WorthRepacking reports whether the package would be read faster afterwards: one that is packed by zstd, or not at
// all, is what Repack makes of it already.
func (d *Deb) WorthRepacking() bool { return d.member != "data.tar" && d.member != "data.tar.zst" }

// Repack must be called before the first Next.
func (d *Deb) Repack(out io.WriterAt) *Repack {
	p := &Repack{d: d, out: out}
	p.write([]byte(arMagic))
	p.member("debian-binary", []byte("2.0\n"))
	p.member("control.tar", d.controlTar())
	p.data = p.off
	p.write(make([]byte, arHeaderSize)) // its size is known at the end; until then this is no package
	p.zstd = zstdWriters.Get().(*zstd.Encoder)
	p.zstd.Reset(p)
	d.data = &tee{ReadCloser: d.data, to: p}
	d.limit.r = d.data
	return p
}

// Finish ends the copy. It is whole only if there is no error; all of the package must have been read.
func (p *Repack) Finish() error {
	err := p.zstd.Close()
	p.zstd.Reset(nil)
	zstdWriters.Put(p.zstd)
	switch {
	case p.err != nil:
		return p.err
	case err != nil:
		return err
	case !errors.Is(p.d.done, io.EOF):
		return fmt.Errorf("%s was not read to its end", p.d.name)
	}
	size := p.off - p.data - arHeaderSize
	if unpacked := p.d.bound - p.d.limit.left; size > maxDataSize || unpacked > unpackedBound(size) {
		return fmt.Errorf("%s packs to %d bytes, out of what is read again", p.d.name, size)
	}
	if size%2 == 1 {
		p.write([]byte("\n"))
	}
	if p.err == nil {
		_, p.err = p.out.WriteAt(arHeader("data.tar.zst", size), p.data)
	}
	return p.err
}

func (p *Repack) member(name string, data []byte) {
	p.write(arHeader(name, int64(len(data))))
	p.write(data)
	if len(data)%2 == 1 {
		p.write([]byte("\n"))
	}
}

// Write is the encoder's way to out. It never fails: see Repack.err.
func (p *Repack) Write(b []byte) (int, error) {
	p.write(b)
	return len(b), nil
}

func (p *Repack) write(b []byte) {
	if p.err == nil {
		_, p.err = p.out.WriteAt(b, p.off)
		p.off += int64(len(b))
	}
}

// arHeader is the inverse of parseArHeader, with the owner and mode that dpkg-deb writes and no date.
func arHeader(name string, size int64) []byte {
	return fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d%s", name, 0, 0, 0, "100644", size, arTrailer)
}

// controlTar packs the control members, sorted.
func (d *Deb) controlTar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(d.control)) {
		data := d.control[name]
		h := &tar.Header{Name: "./" + name, Mode: int64(d.modes[name]), Size: int64(len(data)), Format: tar.FormatGNU}
		_ = w.WriteHeader(h) // a buffer takes all, and names and sizes came from a tar archive
		_, _ = w.Write(data)
	}
	_ = w.Close()
	return b.Bytes()
}

// tee hands what is read to the encoder as well.
type tee struct {
	io.ReadCloser
	to *Repack
}

func (t *tee) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if n > 0 && t.to.err == nil {
		if _, werr := t.to.zstd.Write(b[:n]); werr != nil {
			t.to.err = werr
		}
	}
	return n, err
}
