package stream

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// checksum names how a frame's was computed. A guest uses the one that is quick on its processor, also where that is
// emulated (docs/stream.md has the figures); a reader takes either.
type checksum byte

const (
	sumXXH64 checksum = 1 // 64-bit multiplications, which a 32-bit processor has not
	sumXXH32 checksum = 2
)

// native is this program's own.
func native() checksum {
	if bits.UintSize == 32 {
		return sumXXH32
	}
	return sumXXH64
}

func (c checksum) of(b []byte) uint64 {
	if c == sumXXH32 {
		return uint64(xxh32(b))
	}
	return xxhash.Sum64(b)
}

// The primes of XXH32 (xxHash's doc/xxhash_spec.md).
const (
	prime1 uint32 = 2654435761
	prime2 uint32 = 2246822519
	prime3 uint32 = 3266489917
	prime4 uint32 = 668265263
	prime5 uint32 = 374761393
)

// xxh32 is XXH32 of seed 0, as xxHash's doc/xxhash_spec.md has it.
func xxh32(b []byte) uint32 {
	n := uint32(len(b))
	h := prime5
	if len(b) >= 16 {
		v1, v2, v3, v4 := prime1, prime2, uint32(0), prime1
		v1, v4 = v1+prime2, -v4 // of constants this would overflow
		for ; len(b) >= 16; b = b[16:] {
			v1 = bits.RotateLeft32(v1+binary.LittleEndian.Uint32(b)*prime2, 13) * prime1
			v2 = bits.RotateLeft32(v2+binary.LittleEndian.Uint32(b[4:])*prime2, 13) * prime1
			v3 = bits.RotateLeft32(v3+binary.LittleEndian.Uint32(b[8:])*prime2, 13) * prime1
			v4 = bits.RotateLeft32(v4+binary.LittleEndian.Uint32(b[12:])*prime2, 13) * prime1
		}
		h = bits.RotateLeft32(v1, 1) + bits.RotateLeft32(v2, 7) + bits.RotateLeft32(v3, 12) + bits.RotateLeft32(v4, 18)
	}
	h += n
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*prime3, 17) * prime4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
