package libvirt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The wire format is that of libvirt's src/rpc/virnetprotocol.x: each message is a length of four bytes, a header of six
// words, and a body; all of it big-endian, the body in XDR (RFC 4506).
const (
	headerBytes  = 28
	messageBytes = 32 << 20 // VIR_NET_MESSAGE_MAX
	// dataBytes is how much one stream packet carries: VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX, which every version takes.
	dataBytes = 262120

	program        = 0x20008086 // REMOTE_PROGRAM, src/remote/remote_protocol.x
	programVersion = 1
)

// The kinds of messages (virNetMessageType) and their states (virNetMessageStatus).
const (
	typeReply  = 1
	typeStream = 3
	typeHole   = 6

	statusOK       = 0
	statusError    = 1
	statusContinue = 2
)

// header is what stands before each message's body.
type header struct {
	Size      int // of the body
	Procedure uint32
	Type      uint32
	Serial    uint32
	Status    uint32
}

var errNotLibvirt = errors.New("the other end does not speak libvirt's protocol")

// append adds the header in wire form to b.
func (h header) append(b []byte) []byte {
	for _, w := range [...]uint32{
		uint32(headerBytes + h.Size), program, programVersion, h.Procedure, h.Type, h.Serial, h.Status,
	} {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// peekHeader reads a header without losing any of it: a read that ran into its deadline can be tried again.
func peekHeader(r *bufio.Reader) (header, error) {
	b, err := r.Peek(headerBytes)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return header{}, err
	}
	size := binary.BigEndian.Uint32(b)
	if size < headerBytes || size > messageBytes {
		return header{}, fmt.Errorf("%w: a message of %d bytes", errNotLibvirt, size)
	}
	_, _ = r.Discard(headerBytes)
	return header{
		Size:      int(size) - headerBytes,
		Procedure: binary.BigEndian.Uint32(b[12:]),
		Type:      binary.BigEndian.Uint32(b[16:]),
		Serial:    binary.BigEndian.Uint32(b[20:]),
		Status:    binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// body encodes arguments: XDR, as far as the few procedures here need it.
type body []byte

func (b body) word(v uint32) body { return binary.BigEndian.AppendUint32(b, v) }
func (b body) long(v uint64) body { return binary.BigEndian.AppendUint64(b, v) }

// text is a string: its length, its bytes, and zeros up to the next word.
func (b body) text(s string) body {
	b = append(b.word(uint32(len(s))), s...)
	return append(b, make([]byte, -len(s)&3)...)
}

// option is a string that could be missing, and is not.
func (b body) option(s string) body { return b.word(1).text(s) }

// fields decodes a reply. After the first thing that is missing all else is zero.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) word() uint32 {
	if len(f.rest) < 4 {
		f.rest, f.bad = nil, true
		return 0
	}
	v := binary.BigEndian.Uint32(f.rest)
	f.rest = f.rest[4:]
	return v
}

func (f *fields) long() uint64 { return uint64(f.word())<<32 | uint64(f.word()) }

func (f *fields) text() string {
	n := int64(f.word())
	if padded := (n + 3) &^ 3; padded > int64(len(f.rest)) {
		f.rest, f.bad = nil, true
		return ""
	}
	s := string(f.rest[:n])
	f.rest = f.rest[(n+3)&^3:]
	return s
}

// Error is what libvirtd answered instead of doing what it was asked: the beginning of a virNetMessageError.
type Error struct {
	Code    uint32 // virErrorNumber, include/libvirt/virterror.h
	Message string
}

func (e *Error) Error() string { return e.Message }

// parseError decodes the body of a message with the state 'error'.
func parseError(b []byte) error {
	f := &fields{rest: b}
	e := &Error{Code: f.word()}
	f.word() // the part of libvirt that failed
	if f.word() == 1 {
		e.Message = f.text()
	}
	if f.bad || e.Message == "" {
		e.Message = fmt.Sprintf("libvirt error %d", e.Code)
	}
	return e
}
