package verity

import "encoding/binary"

// maxSalt is the room for the salt in the superblock.
const maxSalt = 256

// superblock is veritysetup's (cryptsetup, lib/verity/verity.c, struct verity_sb), little endian, in a block of its
// own: a tool that is given nothing but the two partitions and the root hash finds all else in it.
func superblock(blocks int64, o Options) []byte {
	const (
		version  = 1
		hashType = 1 // the salt comes before the data
	)
	le := binary.LittleEndian
	b := make([]byte, BlockSize)
	copy(b, "verity\x00\x00")
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], hashType)
	copy(b[16:32], o.UUID[:])
	copy(b[32:64], Algorithm)
	le.PutUint32(b[64:], BlockSize)
	le.PutUint32(b[68:], BlockSize)
	le.PutUint64(b[72:], uint64(blocks))
	le.PutUint16(b[80:], uint16(len(o.Salt)))
	copy(b[88:88+maxSalt], o.Salt)
	return b
}
