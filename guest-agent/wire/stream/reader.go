package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Error says where in a stream something is wrong.
type Error struct {
	Frame  int64  // its number, from 0
	At     int64  // where on the disk it begins, in bytes
	Member string // the one that it belongs to; empty: none
	Offset int64  // how much of the member's content came before it
	Err    error
}

func (e *Error) Error() string {
	where := fmt.Sprintf("frame %d at byte %d", e.Frame, e.At)
	if e.Member != "" {
		where += fmt.Sprintf(", in %q after %d bytes of it", e.Member, e.Offset)
	}
	return where + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Reader reads a stream once. Every frame is checked before anything of it is handed out. After an error every call
// fails with it.
type Reader struct {
	r      io.Reader
	buf    []byte
	number int64 // of the next frame
	total  Total
	last   place // of the last frame that was begun
	err    error

	member Member
	open   bool
	at     int64  // how much of its content has been read from frames
	data   []byte // what is left of the last data frame
	zeros  int64  // what is left of the last hole
}

type place struct{ number, at int64 }

// NewReader makes a Reader on r, from which it takes whole frames.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, buf: make([]byte, headSize+MaxPayload)}
}

// Total is what has been read so far; after io.EOF from Next it is the whole stream's.
func (s *Reader) Total() Total { return s.total }

// Next goes on to the next member, past what is left of the one before. It is io.EOF after the last, when all that the
// end says has been found true.
func (s *Reader) Next() (*Member, error) {
	for s.err == nil && s.open {
		s.data, s.zeros = nil, 0
		s.step()
	}
	if s.err == nil && s.number == 0 {
		s.start()
	}
	if s.err == nil {
		s.begin()
	}
	if s.err != nil {
		return nil, s.err
	}
	m := s.member
	return &m, nil
}

// Read reads the content of the member at hand, to io.EOF at its end. A hole reads as zeros.
func (s *Reader) Read(p []byte) (int, error) {
	for s.err == nil && s.open && len(s.data) == 0 && s.zeros == 0 && len(p) > 0 {
		s.step()
	}
	switch {
	case s.err != nil && !errors.Is(s.err, io.EOF):
		return 0, s.err
	case len(s.data) > 0:
		n := copy(p, s.data)
		s.data = s.data[n:]
		return n, nil
	case s.zeros > 0:
		n := int(min(s.zeros, int64(len(p))))
		clear(p[:n])
		s.zeros -= int64(n)
		return n, nil
	case len(p) == 0:
		return 0, nil
	}
	return 0, io.EOF
}

// frame reads the next frame whole. want are the kinds that may come here.
func (s *Reader) frame(want ...kind) (h head, payload []byte) {
	s.last = place{s.number, s.total.Size}
	payload, sum, err := h.read(s.r, s.buf)
	switch {
	case err != nil:
		s.fail(err)
		return h, nil
	case h.number != uint64(s.number):
		s.fail(fmt.Errorf("it says that it is frame %d", h.number))
		return h, nil
	}
	for _, k := range want {
		if h.kind == k {
			s.number++
			s.total.Size += int64(headSize + len(payload))
			if k != kindEnd {
				s.total.Digest = chain(s.total.Digest, sum)
			}
			return h, payload
		}
	}
	s.fail(fmt.Errorf("a frame of kind %s comes where %v is due", h.kind, want))
	return h, nil
}

// fail notes what is wrong with the last frame.
func (s *Reader) fail(err error) {
	e := &Error{Frame: s.last.number, At: s.last.at, Err: err}
	if s.open {
		e.Member, e.Offset = s.member.Path, s.at
	}
	s.err = e
}

func (s *Reader) start() {
	_, p := s.frame(kindStart)
	if s.err != nil {
		return
	}
	if len(p) != len(hello)+4 || string(p[:len(hello)]) != hello {
		s.fail(fmt.Errorf("it begins with %q, want %q", p, hello))
	} else if v := binary.LittleEndian.Uint32(p[len(hello):]); v != Version {
		s.fail(fmt.Errorf("version %d, this program reads %d", v, Version))
	}
}

// begin reads the frame between members: the next one, or the end.
func (s *Reader) begin() {
	h, p := s.frame(kindMember, kindEnd)
	switch {
	case s.err != nil:
	case h.kind == kindEnd:
		s.end(p)
	default:
		s.member = Member{}
		if err := s.member.unmarshal(p); err != nil {
			s.fail(fmt.Errorf("member %q: %w", s.member.Path, err))
			return
		}
		s.open, s.at = true, 0
		s.total.Members++
	}
}

// step reads one frame of the open member.
func (s *Reader) step() {
	h, p := s.frame(kindData, kindHole, kindMemberEnd)
	if s.err != nil {
		return
	}
	left := s.member.Size - s.at // nothing, of a member of unknown size
	switch {
	case h.at != s.at:
		s.fail(fmt.Errorf("it says that %d bytes of the member came before it", h.at))
	case h.kind == kindMemberEnd && s.member.Size != Unknown && left != 0:
		s.fail(fmt.Errorf("the member ends %d bytes before its length of %d", left, s.member.Size))
	case h.kind == kindMemberEnd:
		s.open = false
		s.total.Content += s.at
	case s.member.Type != File:
		s.fail(errors.New("content of what is no file"))
	case h.length == 0 || h.length > MaxContent-s.total.Content-s.at:
		s.fail(fmt.Errorf("%d bytes of content: want some, and no more than %d in all", h.length, int64(MaxContent)))
	case s.member.Size != Unknown && h.length > left:
		s.fail(fmt.Errorf("%d bytes, %d more than are left of the member's length of %d",
			h.length, h.length-left, s.member.Size))
	default:
		s.at += h.length
		if s.data = p; h.kind == kindHole {
			s.zeros = h.length
		}
	}
}

// end compares what the end says with what was read. An end that is right is io.EOF.
func (s *Reader) end(p []byte) {
	told := s.total.marshal(nil)
	if string(p) != string(told) {
		s.fail(fmt.Errorf("the end speaks of %s, read were %s", sums(p), sums(told)))
		return
	}
	s.err = io.EOF
}

// sums says what an end's payload means.
func sums(p []byte) string {
	if len(p) != 24 {
		return fmt.Sprintf("%d bytes", len(p))
	}
	v := func(i int) uint64 { return binary.LittleEndian.Uint64(p[8*i:]) }
	return fmt.Sprintf("%d members, %d bytes of content, digest %016x", v(0), v(1), v(2))
}
