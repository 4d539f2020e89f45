package erofs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
)

// The format's numbers are those of fs/erofs/erofs_fs.h. All of them are stored little-endian.
const (
	magic       = 0xe0f5e1e2
	superOffset = 1024 // leaves room for a boot sector
	superSize   = 128
	slotSize    = 32 // inodes lie at multiples of it; an inode's number counts them from the start of the metadata

	compactSize  = 32
	extendedSize = 64

	layoutPlain  = 0 // EROFS_INODE_FLAT_PLAIN: all of the content in blocks of its own
	layoutInline = 2 // EROFS_INODE_FLAT_INLINE: its tail follows the inode, within the same block

	compatChecksum = 1 << 0
	compatMtime    = 1 << 1 // the dates in inodes are mtimes
)

// superblock is struct erofs_super_block, as far as it is of use without compression.
type superblock struct {
	compat, incompat uint32
	blockBits        uint8
	slots            uint8 // of 16 bytes that lengthen the superblock
	root             uint16
	inodes           uint64
	time             uint64
	nsec             uint32
	blocks           uint32
	metaBlock        uint32
	xattrBlock       uint32
	uuid             [16]byte
	label            [16]byte
}

// incompatible names the features without which an image cannot be read, by bit. Bits 1, 3 and 5 have two meanings.
var incompatible = [32]string{
	"zero padding", "compression settings or big clusters", "files in chunks", "several devices or a second head",
	"compressed tails", "fragments or shared clusters", "long prefixes of extended attributes",
}

// readable are the features that say nothing of a file without compression: zero padding.
const readable = 1 << 0

// put writes the superblock into the first block of an image, whose other content must be there already: the
// checksum covers the block from the superblock to its end.
func (s *superblock) put(block []byte) {
	b := block[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint32(b[8:], s.compat)
	b[12] = s.blockBits
	b[13] = s.slots
	le.PutUint16(b[14:], s.root)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint64(b[24:], s.time)
	le.PutUint32(b[32:], s.nsec)
	le.PutUint32(b[36:], s.blocks)
	le.PutUint32(b[40:], s.metaBlock)
	le.PutUint32(b[44:], s.xattrBlock)
	copy(b[48:], s.uuid[:])
	copy(b[64:], s.label[:])
	le.PutUint32(b[80:], s.incompat)
	le.PutUint32(b[4:], checksum(b))
}

// parseSuper reads the superblock at the start of b. Its checksum is looked at by the caller, who has the block.
func parseSuper(b []byte) (*superblock, error) {
	le := binary.LittleEndian
	if got := le.Uint32(b); got != magic {
		return nil, fmt.Errorf("no EROFS: the number %#x at byte %d, want %#x", got, superOffset, uint32(magic))
	}
	s := &superblock{
		compat: le.Uint32(b[8:]), blockBits: b[12], slots: b[13], root: le.Uint16(b[14:]), inodes: le.Uint64(b[16:]),
		time: le.Uint64(b[24:]), nsec: le.Uint32(b[32:]), blocks: le.Uint32(b[36:]), metaBlock: le.Uint32(b[40:]),
		xattrBlock: le.Uint32(b[44:]), uuid: [16]byte(b[48:64]), label: [16]byte(b[64:80]), incompat: le.Uint32(b[80:]),
	}
	if s.blockBits < 9 || s.blockBits > 16 {
		return nil, fmt.Errorf("blocks of 2^%d bytes, want 2^9 to 2^16", s.blockBits)
	}
	var unknown []string
	for bit, name := range incompatible {
		if s.incompat&^readable&(1<<bit) != 0 {
			if name == "" {
				name = fmt.Sprintf("bit %d", bit)
			}
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("the image uses %s, which this reader does not know; want an image without compression",
			strings.Join(unknown, ", "))
	}
	return s, nil
}

// checksum is erofs_superblock_csum_verify of fs/erofs/super.c: CRC-32C without its last inversion, over the
// superblock and the rest of its block, the checksum itself taken as zero.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:4])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return ^crc32.Update(sum, table, b[8:])
}

// inode is struct erofs_inode_compact or erofs_inode_extended.
type inode struct {
	extended bool
	layout   uint16
	xattrs   int // bytes of extended attributes behind it, a multiple of 4
	mode     uint16
	nlink    uint32
	size     uint64
	union    uint32 // the first block, or a device's number
	ino      uint32 // for stat(2) on a 32-bit kernel
	uid, gid uint32
	mtime    int64 // a compact inode has that of the superblock
}

func (i *inode) len() int {
	if i.extended {
		return extendedSize
	}
	return compactSize
}

func (i *inode) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b, i.layout<<1)
	if i.xattrs > 0 { // erofs_xattr_ibody_size
		le.PutUint16(b[2:], uint16((i.xattrs-xattrHeader)/4+1))
	}
	le.PutUint16(b[4:], i.mode)
	le.PutUint32(b[16:], i.union)
	le.PutUint32(b[20:], i.ino)
	if !i.extended {
		le.PutUint16(b[6:], uint16(i.nlink))
		le.PutUint32(b[8:], uint32(i.size))
		le.PutUint16(b[24:], uint16(i.uid))
		le.PutUint16(b[26:], uint16(i.gid))
		return
	}
	b[0] |= 1
	le.PutUint64(b[8:], i.size)
	le.PutUint32(b[24:], i.uid)
	le.PutUint32(b[28:], i.gid)
	le.PutUint64(b[32:], uint64(i.mtime))
	le.PutUint32(b[44:], i.nlink)
}

// inodeLen is the size of the inode that begins with these two bytes.
func inodeLen(b []byte) int { return (&inode{extended: b[0]&1 != 0}).len() }

// parseInode reads an inode from exactly inodeLen bytes; built is the superblock's date.
func parseInode(b []byte, built int64) (*inode, error) {
	le := binary.LittleEndian
	format := le.Uint16(b)
	i := &inode{
		extended: format&1 != 0, layout: format >> 1 & 7, mode: le.Uint16(b[4:]), union: le.Uint32(b[16:]),
		ino: le.Uint32(b[20:]), mtime: built,
	}
	if n := int(le.Uint16(b[2:])); n > 0 {
		i.xattrs = xattrHeader + (n-1)*4
	}
	switch {
	case format>>4 != 0:
		return nil, fmt.Errorf("an inode of the unknown format %#x", format)
	case i.layout != layoutPlain && i.layout != layoutInline:
		return nil, fmt.Errorf("content of layout %d (compressed or in chunks), want 0 (plain) or 2 (inline)", i.layout)
	case fileTypes[uint32(i.mode)&typeMask] == 0:
		return nil, fmt.Errorf("an inode with mode %#o, which is no type of file", i.mode)
	}
	if i.extended {
		i.size, i.uid, i.gid = le.Uint64(b[8:]), le.Uint32(b[24:]), le.Uint32(b[28:])
		i.mtime, i.nlink = int64(le.Uint64(b[32:])), le.Uint32(b[44:])
		return i, nil
	}
	i.nlink, i.size = uint32(le.Uint16(b[6:])), uint64(le.Uint32(b[8:]))
	i.uid, i.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
	return i, nil
}
