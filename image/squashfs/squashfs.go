// Package squashfs writes squashfs 4.0 file systems: the same bytes from the same tree, with owners, devices, hard
// links and extended attributes, compressed with zstd on all cores, and without a work folder.
//
// The format is that of the kernel (fs/squashfs/squashfs_fs.h, Documentation/filesystems/squashfs.rst). The package
// refuses to know where a tree comes from, and to read what it wrote: the kernel and unsquashfs do.
package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Node is a file of any type. A node that stands at several places of the tree is one file with as many names.
type Node struct {
	Mode     uint32 // as in stat(2), with the type
	UID, GID uint32
	MTime    int64
	Rdev     uint32 // of a device, as the kernel's new_encode_dev has it
	Target   string // of a symbolic link
	Size     int64  // of a file
	Open     func() (io.ReadCloser, error)
	Xattrs   map[string]string
	Children map[string]*Node // of a folder
}

// Options say how the file system is made.
type Options struct {
	Time     time.Time        // when it was made
	Progress func(done int64) // bytes of files read so far; may be nil
}

// The superblock's constants.
const (
	magic          = 0x73717368 // "hsqs"
	superblockSize = 96
	blockLog       = 17 // 128 KiB, mksquashfs's default
	blockSize      = 1 << blockLog
	compressZstd   = 6
	flagNoXattrs   = 1 << 9
	noTable        = math.MaxUint64
	padTo          = 4096 // a loop device wants whole pages

	noFragment    = math.MaxUint32
	uncompressed  = 1 << 24 // in the size of a data block that is stored as it is
	metadataBlock = 8192
)

// Write writes the tree and returns the file system's size. What is written last is the superblock: a file that is
// cut off does not mount.
func Write(ctx context.Context, out io.WriterAt, root *Node, o Options) (int64, error) {
	w := &writer{Options: o, ctx: ctx, out: out, pos: superblockSize, ids: map[uint32]uint16{}}
	var err error
	if w.zstd, err = encoder(); err != nil {
		return 0, err
	}
	if err := w.plan(root); err != nil {
		return 0, fmt.Errorf("squashfs: %w", err)
	}
	if err := w.data(); err != nil {
		return 0, fmt.Errorf("squashfs: %w", err)
	}
	if err := w.tables(); err != nil {
		return 0, fmt.Errorf("squashfs: %w", err)
	}
	return w.pos, nil
}

// encoder makes frames that the kernel takes: their window must not be larger than a block, and the checksum is not
// looked at.
func encoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(blockSize), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
}

type writer struct {
	Options
	ctx  context.Context
	out  io.WriterAt
	pos  int64
	zstd *zstd.Encoder // for metadata, which one goroutine compresses

	files     []*inode // all, each once, in the order of their numbers
	ids       map[uint32]uint16
	idList    []uint32
	fragments []fragment
	xattrs    xattrTable
}

type fragment struct {
	start uint64
	size  uint32
}

// inode is a node on its way to the disk.
type inode struct {
	*Node
	name     string // the first of its paths, for messages
	number   uint32
	parent   uint32 // of a folder: the parent's number
	links    uint32
	xattr    uint32
	children []child // sorted

	start    uint64 // of a file: where its blocks begin
	blocks   []uint32
	sparse   uint64
	fragment uint32
	offset   uint32 // within the fragment

	dirBlock  uint32 // of a folder: where its list begins
	dirOffset uint16
	dirSize   int

	ref     metaRef
	written bool
}

type child struct {
	name string
	*inode
}

// append writes at the end of what there is.
func (w *writer) append(b []byte) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	n, err := w.out.WriteAt(b, w.pos)
	w.pos += int64(n)
	return err
}

// tables writes all that follows the data, in the order in which the kernel wants it (fs/squashfs/super.c checks that
// each table ends before the next begins), then the superblock.
func (w *writer) tables() error {
	inodes, lists, err := w.inodes()
	if err != nil {
		return err
	}
	root := w.files[0].ref
	inodeTable := w.pos
	if err := w.append(inodes); err != nil {
		return err
	}
	dirTable := w.pos
	if err := w.append(lists); err != nil {
		return err
	}
	fragTable, err := w.fragmentTable()
	if err != nil {
		return err
	}
	idTable, err := w.idTable()
	if err != nil {
		return err
	}
	xattrTable, err := w.writeXattrs()
	if err != nil {
		return err
	}
	used := w.pos
	if pad := -used & (padTo - 1); pad > 0 {
		if err := w.append(make([]byte, pad)); err != nil {
			return err
		}
	}
	flags := uint16(0)
	if xattrTable == noTable {
		flags |= flagNoXattrs
	}
	le := binary.LittleEndian
	b := make([]byte, 0, superblockSize)
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, uint32(len(w.files)))
	b = le.AppendUint32(b, seconds(w.Time.Unix()))
	b = le.AppendUint32(b, blockSize)
	b = le.AppendUint32(b, uint32(len(w.fragments)))
	b = le.AppendUint16(b, compressZstd)
	b = le.AppendUint16(b, blockLog)
	b = le.AppendUint16(b, flags)
	b = le.AppendUint16(b, uint16(len(w.idList)))
	b = le.AppendUint16(b, 4) // version 4.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, root.packed())
	b = le.AppendUint64(b, uint64(used))
	b = le.AppendUint64(b, idTable)
	b = le.AppendUint64(b, xattrTable)
	b = le.AppendUint64(b, uint64(inodeTable))
	b = le.AppendUint64(b, uint64(dirTable))
	b = le.AppendUint64(b, fragTable)
	b = le.AppendUint64(b, noTable) // inodes by number are for NFS exports
	_, err = w.out.WriteAt(b, 0)
	return err
}

// fragmentTable writes where each fragment block lies.
func (w *writer) fragmentTable() (uint64, error) {
	if len(w.fragments) == 0 {
		return noTable, nil
	}
	var b []byte
	for _, f := range w.fragments {
		b = binary.LittleEndian.AppendUint64(b, f.start)
		b = binary.LittleEndian.AppendUint32(b, f.size)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	index, err := w.metadata(b)
	if err != nil {
		return 0, err
	}
	return w.index(nil, index)
}

// idTable writes the owners that inodes refer to by their place in it.
func (w *writer) idTable() (uint64, error) {
	var b []byte
	for _, id := range w.idList {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	index, err := w.metadata(b)
	if err != nil {
		return 0, err
	}
	return w.index(nil, index)
}

// metadata writes a table as metadata blocks and returns where each lies.
func (w *writer) metadata(b []byte) ([]uint64, error) {
	m := metaWriter{zstd: w.zstd}
	var at []uint64
	for len(b) > 0 {
		n := min(len(b), metadataBlock)
		at = append(at, uint64(w.pos)+uint64(len(m.out)))
		m.block(b[:n])
		b = b[n:]
	}
	return at, w.append(m.out)
}

// index writes the places of metadata blocks, after what comes before them, and returns where that lies.
func (w *writer) index(before []byte, at []uint64) (uint64, error) {
	start := uint64(w.pos)
	for _, a := range at {
		before = binary.LittleEndian.AppendUint64(before, a)
	}
	return start, w.append(before)
}

// seconds is a date as the format has it: 32 bits without a sign.
func seconds(t int64) uint32 { return uint32(min(max(t, 0), math.MaxUint32)) }
