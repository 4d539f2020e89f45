package squashfs

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// metaRef is a place in a table of metadata blocks: the block, relative to the table's start, and the offset within
// the block once it is decompressed.
type metaRef struct {
	block  uint32
	offset uint16
}

func (r metaRef) packed() uint64 { return uint64(r.block)<<16 | uint64(r.offset) }

// metaWriter collects a table: blocks of 8 KiB, each compressed on its own behind two bytes that say how long it is.
type metaWriter struct {
	zstd *zstd.Encoder
	out  []byte // finished blocks
	buf  []byte // the block that is being filled
}

// at is where the next byte will be.
func (m *metaWriter) at() metaRef { return metaRef{uint32(len(m.out)), uint16(len(m.buf))} }

func (m *metaWriter) write(b []byte) {
	for len(b) > 0 {
		n := min(len(b), metadataBlock-len(m.buf))
		m.buf = append(m.buf, b[:n]...)
		b = b[n:]
		if len(m.buf) == metadataBlock {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	if len(m.buf) > 0 {
		m.block(m.buf)
		m.buf = m.buf[:0]
	}
}

// storedPlain in the size of a metadata block says that it is not compressed.
const storedPlain = 1 << 15

func (m *metaWriter) block(b []byte) {
	z := m.zstd.EncodeAll(b, nil)
	head := uint16(len(z))
	if len(z) >= len(b) {
		z, head = b, uint16(len(b))|storedPlain
	}
	m.out = binary.LittleEndian.AppendUint16(m.out, head)
	m.out = append(m.out, z...)
}
