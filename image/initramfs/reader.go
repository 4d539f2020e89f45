package initramfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Reader reads one newc archive. It takes what Writer writes and what the kernel's gen_init_cpio and cpio(1) write
// in that format; it follows hard links no further than reporting the entry without data.
type Reader struct {
	r    io.Reader
	off  int64
	left int64 // of the current entry
	done bool
}

// NewReader starts reading at r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next skips to the next entry. At the trailer it returns io.EOF.
func (r *Reader) Next() (Header, error) {
	if r.done {
		return Header{}, io.EOF
	}
	if err := r.skip(r.left); err != nil {
		return Header{}, err
	}
	r.left = 0
	if err := r.align(); err != nil {
		return Header{}, err
	}
	var raw [headerSize]byte
	if err := r.full(raw[:]); err != nil {
		return Header{}, fmt.Errorf("cpio: header at %d: %w", r.off, err)
	}
	if string(raw[:6]) != magic {
		return Header{}, fmt.Errorf("cpio: header at %d: magic %q, expected %s", r.off-headerSize, raw[:6], magic)
	}
	var f [13]uint32
	for i := range f {
		v, err := strconv.ParseUint(string(raw[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return Header{}, fmt.Errorf("cpio: header at %d: field %d: %w", r.off-headerSize, i, err)
		}
		f[i] = uint32(v)
	}
	if f[11] < 2 || f[11] > maxName || int64(f[6]) > maxData {
		return Header{}, fmt.Errorf("cpio: header at %d: name of %d bytes, data of %d", r.off-headerSize, f[11], f[6])
	}
	name := make([]byte, f[11])
	if err := r.full(name); err != nil {
		return Header{}, fmt.Errorf("cpio: name at %d: %w", r.off, err)
	}
	if name[len(name)-1] != 0 {
		return Header{}, fmt.Errorf("cpio: name at %d does not end in NUL", r.off-int64(len(name)))
	}
	h := Header{
		Name: string(name[:len(name)-1]), Mode: f[1], UID: f[2], GID: f[3], MTime: f[5],
		Size: int64(f[6]), Major: f[9], Minor: f[10],
	}
	if h.Name == trailer {
		r.done = true
		return Header{}, io.EOF
	}
	if err := checkName(h.Name); err != nil {
		return Header{}, err
	}
	r.left = h.Size
	return h, r.align()
}

// Read reads the current entry's data.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.off += int64(n)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *Reader) full(p []byte) error {
	n, err := io.ReadFull(r.r, p)
	r.off += int64(n)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) skip(n int64) error {
	got, err := io.CopyN(io.Discard, r.r, n)
	r.off += got
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) align() error { return r.skip(-r.off & 3) }
