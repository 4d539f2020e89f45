package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// Blocks are what is written at once, and held: large enough that a disk's latency does not count, and aligned in
// memory and on the disk, so that a disk opened with O_DIRECT takes them.
const (
	blockSize  = 2 << 20
	blocks     = 4
	sectorSize = 4096
	// inPlace is the least room in a block into which content is read directly; into less it is copied.
	inPlace = 4096
)

// Writer writes a stream. While one block is on its way to the disk the next is filled, so that an error of the disk comes
// with a later call, with Close at the latest. Not for several goroutines at once.
type Writer struct {
	sum    checksum
	total  Total
	number uint64
	open   bool  // a member is
	size   int64 // of the open member, as its head says
	at     int64 // how much of its content is written

	block []byte // being filled; its capacity is blockSize
	full  chan []byte
	free  chan []byte
	ended chan struct{} // closed when nothing is written any more
	err   error         // why; to be read after ended
	small []byte        // a frame that may cross from one block to the next
}

// ErrTooMuch is more content than MaxContent.
var ErrTooMuch = fmt.Errorf("more than %d bytes of content in one stream", int64(MaxContent))

// NewWriter begins a stream on w, which gets blocks of blockSize bytes, the last one padded with zeros to sectorSize.
// Close must be called.
func NewWriter(w io.Writer) *Writer { return newWriter(w, native()) }

func newWriter(w io.Writer, sum checksum) *Writer {
	s := &Writer{
		sum:  sum,
		full: make(chan []byte, blocks), free: make(chan []byte, blocks), ended: make(chan struct{}),
		small: make([]byte, 0, headSize+memberSize+2*maxName),
	}
	for range blocks {
		s.free <- aligned(blockSize)[:0]
	}
	go s.drain(w)
	s.block = <-s.free
	payload := binary.LittleEndian.AppendUint32([]byte(hello), Version)
	_ = s.frame(head{kind: kindStart}, payload) // a fault shows at the next call
	return s
}

// aligned makes a slice that begins at a multiple of sectorSize.
func aligned(n int) []byte {
	b := make([]byte, n+sectorSize)
	skip := -uintptr(unsafe.Pointer(&b[0])) & (sectorSize - 1)
	return b[skip : skip+uintptr(n) : skip+uintptr(n)]
}

// drain writes full blocks until there are no more or one cannot be written.
func (s *Writer) drain(w io.Writer) {
	defer close(s.ended)
	for b := range s.full {
		if _, err := w.Write(b); err != nil {
			s.err = err
			return
		}
		s.free <- b[:0]
	}
}

// next gets a block to fill, when the one at hand is full.
func (s *Writer) next() error {
	select { // full has room for every block there is: this waits for no one
	case s.full <- s.block:
	case <-s.ended:
		return s.err
	}
	select {
	case s.block = <-s.free:
		return nil
	case <-s.ended:
		s.block = s.block[:0]
		return s.err
	}
}

// frame writes one with a short payload.
func (s *Writer) frame(h head, payload []byte) error {
	h.number, h.sum = s.number, s.sum
	if h.kind != kindHole {
		h.length = int64(len(payload))
	}
	f := append(s.small[:headSize], payload...)
	h.put(f)
	s.count(seal(f), len(f))
	for len(f) > 0 {
		n := copy(s.block[len(s.block):blockSize], f)
		s.block, f = s.block[:len(s.block)+n], f[n:]
		if len(s.block) == blockSize {
			if err := s.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Writer) count(sum uint64, n int) {
	s.number++
	s.total.Digest = chain(s.total.Digest, sum)
	s.total.Size += int64(n)
}

// Member begins the next member. The one before ends.
func (s *Writer) Member(m Member) error {
	if err := s.EndMember(); err != nil {
		return err
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("member %q: %w", m.Path, err)
	}
	s.open, s.size, s.at = true, m.Size, 0
	s.total.Members++
	return s.frame(head{kind: kindMember}, m.marshal(nil))
}

// EndMember ends the open member, if there is one. Its content must be there.
func (s *Writer) EndMember() error {
	if !s.open {
		return nil
	}
	if s.size != Unknown && s.at != s.size {
		return fmt.Errorf("member of %d bytes ends after %d", s.size, s.at)
	}
	s.open = false
	s.total.Content += s.at
	return s.frame(head{kind: kindMemberEnd, at: s.at}, nil)
}

// Hole writes n zeros as content, by saying that they are there.
func (s *Writer) Hole(n int64) error {
	if n <= 0 {
		return nil
	}
	if err := s.room(n); err != nil {
		return err
	}
	err := s.frame(head{kind: kindHole, at: s.at, length: n}, nil)
	s.at += n
	return err
}

// room checks that n more bytes of content belong to the open member.
func (s *Writer) room(n int64) error {
	switch {
	case !s.open:
		return errors.New("content without a member")
	case s.size != Unknown && s.at+n > s.size:
		return fmt.Errorf("member of %d bytes gets %d", s.size, s.at+n)
	case n > MaxContent-s.total.Content-s.at:
		return ErrTooMuch
	}
	return nil
}

// Fill writes n bytes of content, read from r straight into what goes to the disk. It is io.ErrUnexpectedEOF if r has
// fewer.
func (s *Writer) Fill(r io.Reader, n int64) error {
	if err := s.room(n); err != nil {
		return err
	}
	for n > 0 {
		did, err := s.fill(r, n)
		if err != nil {
			return err
		}
		n -= did
	}
	return nil
}

// fill writes one data frame: in its place, as long as the block has room for it.
func (s *Writer) fill(r io.Reader, n int64) (int64, error) {
	room := blockSize - len(s.block) - headSize
	if room < inPlace {
		var b [inPlace]byte
		part := b[:min(n, inPlace)]
		if _, err := io.ReadFull(r, part); err != nil {
			return 0, short(err)
		}
		err := s.frame(head{kind: kindData, at: s.at}, part)
		s.at += int64(len(part))
		return int64(len(part)), err
	}
	n = min(n, int64(room), MaxPayload)
	from := len(s.block)
	f := s.block[from : from+headSize+int(n)]
	if _, err := io.ReadFull(r, f[headSize:]); err != nil {
		return 0, short(err)
	}
	head{kind: kindData, sum: s.sum, number: s.number, at: s.at, length: n}.put(f)
	s.count(seal(f), len(f))
	s.block = s.block[:from+len(f)]
	s.at += n
	if len(s.block) == blockSize {
		return n, s.next()
	}
	return n, nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write writes content, for a member that is made on the way.
func (s *Writer) Write(p []byte) (int, error) {
	r := &bytesReader{p}
	if err := s.Fill(r, int64(len(p))); err != nil {
		return len(p) - len(r.p), err
	}
	return len(p), nil
}

type bytesReader struct{ p []byte }

func (r *bytesReader) Read(b []byte) (int, error) {
	n := copy(b, r.p)
	r.p = r.p[n:]
	return n, nil
}

// Close ends the stream and waits until it is written. It must be called even after an error, and returns it then.
func (s *Writer) Close() (Total, error) {
	err := s.EndMember()
	if err == nil {
		err = s.end()
	}
	close(s.full)
	<-s.ended
	if s.err != nil {
		err = s.err
	}
	return s.total, err
}

func (s *Writer) end() error {
	digest := s.total.Digest // the end's own frame is none of it
	if err := s.frame(head{kind: kindEnd}, s.total.marshal(nil)); err != nil {
		return err
	}
	s.total.Digest = digest
	if len(s.block) == 0 {
		return nil
	}
	used := len(s.block)
	s.block = s.block[:(used+sectorSize-1)/sectorSize*sectorSize]
	clear(s.block[used:])
	return s.next()
}
