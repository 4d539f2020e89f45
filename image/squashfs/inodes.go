package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Inode types: the basic forms; the extended ones are these and extended more.
const (
	inodeDir     = 1
	inodeFile    = 2
	inodeSymlink = 3
	inodeBlock   = 4
	inodeChar    = 5
	inodeFifo    = 6
	inodeSocket  = 7
	extended     = 7
)

func (in *inode) basic() uint16 {
	switch in.Mode & typeMask {
	case typeDir:
		return inodeDir
	case typeLink:
		return inodeSymlink
	case typeBlock:
		return inodeBlock
	case typeChar:
		return inodeChar
	case typeFifo:
		return inodeFifo
	case typeSocket:
		return inodeSocket
	}
	return inodeFile
}

// inodes makes the table of inodes and that of the folders' lists. A list says where its inodes lie, so each folder
// comes after what is in it.
func (w *writer) inodes() (inodes, lists []byte, err error) {
	it, dt := &metaWriter{zstd: w.zstd}, &metaWriter{zstd: w.zstd}
	if err := w.inode(it, dt, w.files[0]); err != nil {
		return nil, nil, err
	}
	it.flush()
	dt.flush()
	return it.out, dt.out, nil
}

func (w *writer) inode(it, dt *metaWriter, in *inode) error {
	if in.written {
		return nil
	}
	for _, c := range in.children {
		if err := w.inode(it, dt, c.inode); err != nil {
			return err
		}
	}
	if in.isDir() {
		at := dt.at()
		in.dirBlock, in.dirOffset = at.block, at.offset
		list := in.list()
		in.dirSize = len(list) + 3 // the kernel counts '.' and '..' as three bytes
		dt.write(list)
	}
	if uint64(len(it.out)) > math.MaxUint32 || uint64(len(dt.out)) > math.MaxUint32 {
		return fmt.Errorf("%s: more than 4 GiB of inodes", in.name)
	}
	in.ref, in.written = it.at(), true
	it.write(w.encode(in))
	return nil
}

// list is a folder's content: headers with up to 256 names each, whose inodes lie in one metadata block and are
// numbered near each other.
func (in *inode) list() []byte {
	var b []byte
	for rest := in.children; len(rest) > 0; {
		first := rest[0]
		n := 1
		for n < len(rest) && n < 256 && rest[n].ref.block == first.ref.block && near(rest[n].number, first.number) {
			n++
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(n-1))
		b = binary.LittleEndian.AppendUint32(b, first.ref.block)
		b = binary.LittleEndian.AppendUint32(b, first.number)
		for _, c := range rest[:n] {
			b = binary.LittleEndian.AppendUint16(b, c.ref.offset)
			b = binary.LittleEndian.AppendUint16(b, uint16(int16(int64(c.number)-int64(first.number))))
			b = binary.LittleEndian.AppendUint16(b, c.basic())
			b = binary.LittleEndian.AppendUint16(b, uint16(len(c.name)-1))
			b = append(b, c.name...)
		}
		rest = rest[n:]
	}
	return b
}

func near(a, b uint32) bool {
	d := int64(a) - int64(b)
	return d >= math.MinInt16 && d <= math.MaxInt16
}

func (w *writer) encode(in *inode) []byte {
	body, long := in.body()
	typ := in.basic()
	if long {
		typ += extended
	}
	le := binary.LittleEndian
	b := le.AppendUint16(nil, typ)
	b = le.AppendUint16(b, uint16(in.Mode&0o7777))
	b = le.AppendUint16(b, w.ids[in.UID])
	b = le.AppendUint16(b, w.ids[in.GID])
	b = le.AppendUint32(b, seconds(in.MTime))
	b = le.AppendUint32(b, in.number)
	return append(b, body...)
}

// body is what follows the part that all inodes have; the extended form where the basic one cannot say it all.
func (in *inode) body() (b []byte, long bool) {
	le := binary.LittleEndian
	long = in.xattr != noXattr
	switch in.Mode & typeMask {
	case typeDir:
		return in.dirBody(long || in.dirSize > math.MaxUint16)
	case typeFile:
		return in.fileBody(long || in.links > 1 || in.sparse > 0 ||
			in.start > math.MaxUint32 || in.Size > math.MaxUint32)
	case typeLink:
		b = le.AppendUint32(b, in.links)
		b = le.AppendUint32(b, uint32(len(in.Target)))
		b = append(b, in.Target...)
	case typeChar, typeBlock:
		b = le.AppendUint32(b, in.links)
		b = le.AppendUint32(b, in.Rdev)
	default:
		b = le.AppendUint32(b, in.links)
	}
	if long {
		b = le.AppendUint32(b, in.xattr)
	}
	return b, long
}

func (in *inode) dirBody(long bool) ([]byte, bool) {
	le := binary.LittleEndian
	if !long {
		b := le.AppendUint32(nil, in.dirBlock)
		b = le.AppendUint32(b, in.links)
		b = le.AppendUint16(b, uint16(in.dirSize))
		b = le.AppendUint16(b, in.dirOffset)
		return le.AppendUint32(b, in.parent), false
	}
	b := le.AppendUint32(nil, in.links)
	b = le.AppendUint32(b, uint32(in.dirSize))
	b = le.AppendUint32(b, in.dirBlock)
	b = le.AppendUint32(b, in.parent)
	b = le.AppendUint16(b, 0) // no index: a list is searched from its start
	b = le.AppendUint16(b, in.dirOffset)
	return le.AppendUint32(b, in.xattr), true
}

func (in *inode) fileBody(long bool) ([]byte, bool) {
	le := binary.LittleEndian
	var b []byte
	if long {
		b = le.AppendUint64(b, in.start)
		b = le.AppendUint64(b, uint64(in.Size))
		b = le.AppendUint64(b, in.sparse)
		b = le.AppendUint32(b, in.links)
		b = le.AppendUint32(b, in.fragment)
		b = le.AppendUint32(b, in.offset)
		b = le.AppendUint32(b, in.xattr)
	} else {
		b = le.AppendUint32(b, uint32(in.start))
		b = le.AppendUint32(b, in.fragment)
		b = le.AppendUint32(b, in.offset)
		b = le.AppendUint32(b, uint32(in.Size))
	}
	for _, size := range in.blocks {
		b = le.AppendUint32(b, size)
	}
	return b, long
}
