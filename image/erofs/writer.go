package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an image says of itself.
type Options struct {
	BuildTime time.Time // to the second; an inode with this date takes half the room
	UUID      [16]byte
	Label     string // volume name, at most 16 bytes
}

// Write writes the tree as an image to w, from offset 0, and returns its size, a multiple of BlockSize. What lies at w
// must read as zeros before, as a new file does: holes stay holes. Several goroutines read the contents, each content
// once and from its start to its end. The superblock is written last: an image that was not finished is none.
func Write(ctx context.Context, w io.WriterAt, root *Node, opts Options) (int64, error) {
	if len(opts.Label) > 16 {
		return 0, fmt.Errorf("the label %q has %d bytes, want at most 16", opts.Label, len(opts.Label))
	}
	p, err := layOut(root, opts.BuildTime)
	if err != nil {
		return 0, err
	}
	if err := p.write(ctx, w, p.units[1:]); err != nil {
		return 0, err
	}
	c := newCopier(ctx, p, w)
	first, err := c.fill(p.units[0])
	if err != nil {
		return 0, err
	}
	p.superblock(opts).put(first)
	if err := c.put(first, 0); err != nil {
		return 0, err
	}
	return p.blocks * BlockSize, nil
}

func (p *plan) superblock(opts Options) *superblock {
	s := &superblock{
		compat: compatChecksum | compatMtime, blockBits: blockBits, root: uint16(p.inodes[0].nid),
		inodes: uint64(len(p.inodes)), time: uint64(p.built), blocks: uint32(p.blocks), uuid: opts.UUID,
	}
	copy(s.label[:], opts.Label)
	return s
}

// write writes units of the metadata with the contents of their inodes, on all processors. It stops at the first
// error.
func (p *plan) write(ctx context.Context, w io.WriterAt, units []unit) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(units)) {
		wg.Go(func() {
			c := newCopier(ctx, p, w)
			for i := next.Add(1) - 1; i < int64(len(units)); i = next.Add(1) - 1 {
				block, err := c.fill(units[i])
				if err == nil {
					err = c.put(block, units[i].block*BlockSize)
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// copySize is how much of a content is moved at once, a multiple of BlockSize. Reading and writing in such pieces is
// as fast as copy_file_range(2) on ext4, and knows nothing of files.
const copySize = 1 << 20

// copier is what one goroutine writes with.
type copier struct {
	ctx   context.Context
	p     *plan
	w     io.WriterAt
	buf   []byte // a piece of a content
	block []byte // a unit of the metadata
}

func newCopier(ctx context.Context, p *plan, w io.WriterAt) *copier {
	return &copier{ctx: ctx, p: p, w: w, buf: make([]byte, copySize)}
}

// put writes at a place in the image.
func (c *copier) put(b []byte, off int64) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	_, err := c.w.WriteAt(b, off)
	return err
}

// fill makes a unit of the metadata, which is good until the next call, and writes what its inodes' contents have in
// blocks of their own.
func (c *copier) fill(u unit) ([]byte, error) {
	if int64(cap(c.block)) < u.size {
		c.block = make([]byte, u.size)
	}
	block := c.block[:u.size]
	clear(block)
	for _, i := range u.inodes {
		b := block[int64(i.nid)*slotSize-u.block*BlockSize:]
		i.put(b)
		b = b[i.len():]
		b = b[copy(b, i.attrs):]
		if err := c.content(i, b[:i.tail()]); err != nil {
			return nil, err
		}
	}
	return block, nil
}

// content brings the content of an inode to its place: whole blocks to their own, the rest to tail.
func (c *copier) content(i *placed, tail []byte) error {
	if i.size == 0 {
		return nil
	}
	r := c.p.open(i)
	if _, ok := r.(zeros); ok {
		return c.hole(i)
	}
	if closer, ok := r.(io.Closer); ok {
		defer closer.Close()
	}
	size := int64(i.size)
	whole := size - int64(len(tail))
	for done := int64(0); done < whole; {
		b := c.buf[:min(whole-done, copySize)]
		if err := i.read(r, b, done); err != nil {
			return err
		}
		n := len(b)
		b = b[:roundUp(int64(n))] // the last block is filled up with zeros
		clear(b[n:])
		if err := c.put(b, int64(i.union)*BlockSize+done); err != nil {
			return err
		}
		done += int64(n)
	}
	if err := i.read(r, tail, whole); err != nil {
		return err
	}
	switch n, err := io.ReadFull(r, c.buf[:1]); {
	case n > 0:
		return fmt.Errorf("%s: its content goes on after %d bytes", i.path, size)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("%s: %w", i.path, err)
	}
	return nil
}

// hole leaves a content out but for its last block, so that the image has its full size wherever the hole lies.
func (c *copier) hole(i *placed) error {
	n := i.blocks()
	if n == 0 {
		return nil
	}
	return c.put(make([]byte, BlockSize), (int64(i.union)+n-1)*BlockSize)
}

// read fills b from the content of an inode, of which done bytes have been read.
func (i *placed) read(r io.Reader, b []byte, done int64) error {
	n, err := io.ReadFull(r, b)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: its content ends after %d of %d bytes", i.path, done+int64(n), i.size)
	}
	return fmt.Errorf("%s: %w", i.path, err)
}

// open opens what an inode that is not empty contains.
func (p *plan) open(i *placed) io.Reader {
	switch n := i.node; {
	case n.is(typeDir):
		return bytes.NewReader(p.directory(i))
	case n.is(typeLink):
		return strings.NewReader(n.Link)
	default:
		return n.Data()
	}
}

// directory makes the content of a folder.
func (p *plan) directory(i *placed) []byte {
	return encodeDir(i.names, func(name string) (nid uint64, kind uint8) {
		to := i
		switch name {
		case ".":
		case "..":
			to = i.up
		default:
			to = p.byNode[i.node.Children[name]]
		}
		return to.nid, fileTypes[to.node.Mode&typeMask]
	})
}
