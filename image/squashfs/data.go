package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/belljar/belljar/image/inorder"
)

// block is a piece of a file, or a collection of small files, on its way to the disk.
type block struct {
	file  *inode // nil: a fragment block
	index int    // which of the file's blocks, or which fragment
	plain *[]byte
	z     []byte // what to write; empty: nothing but zeros, a hole
	flag  uint32
}

// data writes the files' contents: large files in blocks of their own, those smaller than a block together in
// fragment blocks.
func (w *writer) data() (err error) {
	p := &packer{w: w, buffers: sync.Pool{New: func() any { b := make([]byte, 0, blockSize); return &b }}}
	p.encoders.New = func() any {
		z, err := encoder()
		if err != nil {
			panic(err) // the options are constant, and were taken before
		}
		return z
	}
	p.queue = inorder.New(w.ctx, p.compress, p.store)
	defer func() {
		if e := p.queue.Close(); e != nil {
			err = e // the cause, where Put only told that there was one
		}
	}()
	for _, in := range w.files {
		if in.Mode&typeMask != typeFile || in.Size == 0 {
			continue
		}
		if err := p.file(in); err != nil {
			return fmt.Errorf("%s: %w", in.name, err)
		}
	}
	return p.flush()
}

type packer struct {
	w        *writer
	queue    *inorder.Queue[block]
	buffers  sync.Pool
	encoders sync.Pool
	small    *[]byte // the fragment block that is being filled
	count    int     // fragment blocks put so far
	read     int64
}

func (p *packer) file(in *inode) error {
	r, err := in.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if in.Size < blockSize {
		return p.fragment(in, r)
	}
	in.blocks = make([]uint32, (in.Size+blockSize-1)/blockSize)
	for i := range in.blocks {
		buf := p.buffer()
		if err := p.fill(buf, r, int(min(blockSize, in.Size-int64(i)*blockSize))); err != nil {
			return err
		}
		if err := p.queue.Put(block{file: in, index: i, plain: buf}); err != nil {
			return err
		}
	}
	return nil
}

// fragment lays a small file behind others of its kind.
func (p *packer) fragment(in *inode, r io.Reader) error {
	if p.small != nil && len(*p.small)+int(in.Size) > blockSize {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.small == nil {
		p.small = p.buffer()
	}
	in.fragment, in.offset = uint32(p.count), uint32(len(*p.small))
	return p.fill(p.small, r, int(in.Size))
}

func (p *packer) flush() error {
	if p.small == nil {
		return nil
	}
	b := block{index: p.count, plain: p.small}
	p.small = nil
	p.count++
	return p.queue.Put(b)
}

func (p *packer) buffer() *[]byte {
	b := p.buffers.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

// fill appends n bytes of r.
func (p *packer) fill(b *[]byte, r io.Reader, n int) error {
	at := len(*b)
	*b = (*b)[:at+n]
	if _, err := io.ReadFull(r, (*b)[at:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it ends before its size")
		}
		return err
	}
	p.read += int64(n)
	if p.w.Progress != nil {
		p.w.Progress(p.read)
	}
	return nil
}

// compress runs on several cores.
func (p *packer) compress(b *block) error {
	if b.file != nil && zero(*b.plain) {
		return nil
	}
	z := p.encoders.Get().(*zstd.Encoder)
	out := p.buffer()
	b.z = z.EncodeAll(*b.plain, *out)
	p.encoders.Put(z)
	if len(b.z) >= len(*b.plain) {
		b.z, b.flag = append(b.z[:0], *b.plain...), uncompressed
	}
	return nil
}

// store runs on one, in order.
func (p *packer) store(b *block) error {
	w := p.w
	start := uint64(w.pos)
	size := uint32(len(b.z)) | b.flag
	if err := w.append(b.z); err != nil {
		return err
	}
	if b.file == nil {
		w.fragments = append(w.fragments, fragment{start, size})
	} else {
		b.file.put(b, start, size)
	}
	p.buffers.Put(b.plain)
	if cap(b.z) >= blockSize {
		z := b.z[:0]
		p.buffers.Put(&z)
	}
	return nil
}

// put notes where a block of the file came to lie.
func (in *inode) put(b *block, start uint64, size uint32) {
	if b.index == 0 {
		in.start = start
	}
	if size == 0 {
		in.sparse += uint64(len(*b.plain))
	}
	in.blocks[b.index] = size
}

var zeros [blockSize]byte

func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
