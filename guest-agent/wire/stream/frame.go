package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// head is a frame's, without checksum and magic.
type head struct {
	kind   kind
	sum    checksum
	number uint64
	at     int64
	length int64
}

// put writes the head into the first bytes of a frame. The checksum comes last: see seal.
func (h head) put(b []byte) {
	copy(b[8:], magic)
	b[12], b[13], b[14], b[15] = byte(h.kind), byte(h.sum), 0, 0
	binary.LittleEndian.PutUint64(b[16:], h.number)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.at))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.length))
}

// seal writes a whole frame's checksum into it.
func seal(frame []byte) (sum uint64) {
	sum = checksum(frame[13]).of(frame[8:])
	binary.LittleEndian.PutUint64(frame, sum)
	return sum
}

// chain adds a frame's checksum to a digest.
func chain(digest, sum uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], digest)
	binary.LittleEndian.PutUint64(b[8:], sum)
	return xxhash.Sum64(b[:])
}

// parse reads a head. What it says is not believed before the checksum: only its length is used till then.
func (h *head) parse(b []byte) error {
	if string(b[8:12]) != magic {
		return fmt.Errorf("no frame begins here: the bytes are %x", b[8:12])
	}
	h.kind, h.sum = kind(b[12]), checksum(b[13])
	if h.sum != sumXXH64 && h.sum != sumXXH32 || b[14]|b[15] != 0 {
		return fmt.Errorf("a checksum of kind %d, and %d where zero is due", h.sum, binary.LittleEndian.Uint16(b[14:]))
	}
	h.number = binary.LittleEndian.Uint64(b[16:])
	h.at, h.length = int64(binary.LittleEndian.Uint64(b[24:])), int64(binary.LittleEndian.Uint64(b[32:]))
	if h.at < 0 || h.length < 0 || h.kind != kindHole && h.length > MaxPayload {
		return fmt.Errorf("it speaks of %d bytes at %d", h.length, h.at)
	}
	return nil
}

// payload is how many bytes follow the head.
func (h *head) payload() int {
	if h.kind == kindHole {
		return 0
	}
	return int(h.length)
}

// read takes a whole frame off r into buf, which holds the longest, and checks it against its checksum. It is
// io.ErrUnexpectedEOF if the frame is not all there.
func (h *head) read(r io.Reader, buf []byte) (payload []byte, sum uint64, err error) {
	if n, err := io.ReadFull(r, buf[:headSize]); err != nil {
		return nil, 0, cut(err, n, headSize, "its head")
	}
	if err := h.parse(buf); err != nil {
		return nil, 0, err
	}
	frame := buf[:headSize+h.payload()]
	if n, err := io.ReadFull(r, frame[headSize:]); err != nil {
		return nil, 0, cut(err, n, h.payload(), "its payload")
	}
	sum = binary.LittleEndian.Uint64(frame)
	if got := h.sum.of(frame[8:]); got != sum {
		return nil, 0, fmt.Errorf("its bytes have the checksum %016x, written was %016x", got, sum)
	}
	return frame[headSize:], sum, nil
}

// cut says how much of something was there before the stream ended.
func cut(err error, n, want int, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the stream is cut off after %d of %d bytes of %s: %w", n, want, what, io.ErrUnexpectedEOF)
	}
	return err
}
