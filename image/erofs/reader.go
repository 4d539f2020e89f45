package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Image is an EROFS image that is being read. Several goroutines may use it.
type Image struct {
	BlockSize int64
	Blocks    int64  // of the whole image
	Inodes    uint64 // as the superblock counts them
	BuildTime time.Time
	UUID      [16]byte
	Label     string

	r     io.ReaderAt
	super *superblock
}

// Open reads the superblock and checks it.
func Open(r io.ReaderAt) (*Image, error) {
	b := make([]byte, superSize)
	if err := readAt(r, b, superOffset); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	s, err := parseSuper(b)
	if err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	m := &Image{
		BlockSize: 1 << s.blockBits, Blocks: int64(s.blocks), Inodes: s.inodes,
		BuildTime: time.Unix(int64(s.time), int64(s.nsec)).UTC(), UUID: s.uuid,
		Label: strings.TrimRight(string(s.label[:]), "\x00"), r: r, super: s,
	}
	if s.compat&compatChecksum != 0 {
		if err := m.verify(); err != nil {
			return nil, fmt.Errorf("superblock: %w", err)
		}
	}
	if err := readAt(r, b[:1], m.Size()-1); err != nil {
		return nil, fmt.Errorf("an image of %d blocks of %d bytes, cut off: %w", m.Blocks, m.BlockSize, err)
	}
	return m, nil
}

// verify checks the superblock's checksum, over what checksum says.
func (m *Image) verify() error {
	size := m.BlockSize
	if size > superOffset {
		size -= superOffset
	}
	b := make([]byte, size)
	if err := readAt(m.r, b, superOffset); err != nil {
		return err
	}
	if got, want := checksum(b), binary.LittleEndian.Uint32(b[4:]); got != want {
		return fmt.Errorf("its checksum is %#08x, want %#08x: the image is damaged", got, want)
	}
	return nil
}

// Size is the size of the image in bytes.
func (m *Image) Size() int64 { return m.Blocks * m.BlockSize }

// readAt fills b or says why not: an end before that is an error.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%d bytes at byte %d, want %d: %w", n, off, len(b), io.ErrUnexpectedEOF)
	}
	return err
}

// body is where a content lies: its whole blocks in one piece, its tail behind the inode or nowhere.
type body struct{ off, whole, tailOff, tail int64 }

func (b body) size() int64 { return b.whole + b.tail }

func (b body) open(r io.ReaderAt) io.Reader {
	whole, tail := io.NewSectionReader(r, b.off, b.whole), io.NewSectionReader(r, b.tailOff, b.tail)
	switch {
	case b.tail == 0:
		return whole
	case b.whole == 0:
		return tail
	}
	return io.MultiReader(whole, tail)
}

// locate finds the content of an inode, which ends in the metadata at end, and holds it to lie within the image
// (erofs_map_blocks_flatmode of fs/erofs/data.c).
func (m *Image) locate(i *inode, end int64) (body, error) {
	if i.size > uint64(m.Size()) {
		return body{}, fmt.Errorf("%d bytes of content in an image of %d", i.size, m.Size())
	}
	b := body{off: int64(i.union) * m.BlockSize, whole: int64(i.size)}
	if i.layout == layoutInline {
		b.tailOff, b.tail = end, int64(i.size)%m.BlockSize
		b.whole -= b.tail
		if end%m.BlockSize+b.tail > m.BlockSize {
			return body{}, fmt.Errorf("an inline tail of %d bytes at byte %d leaves its block", b.tail, end)
		}
	}
	if b.whole > 0 && b.off+b.whole > m.Size() || b.tailOff+b.tail > m.Size() {
		return body{}, fmt.Errorf("its content leaves the image: %d bytes at byte %d, want all before byte %d",
			b.whole, b.off, m.Size())
	}
	return b, nil
}
