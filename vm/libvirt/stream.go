package libvirt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The procedures that this client calls itself: src/remote/remote_protocol.x, enum remote_procedure. All others go
// through go-libvirt, whose channel can only be read, and whose uploads know no holes.
const (
	procConnectOpen       = 1
	procAuthList          = 66
	procAuthPolkit        = 70
	procVolUpload         = 208
	procVolDownload       = 209
	procDomainScreenshot  = 211
	procDomainOpenChannel = 296
)

// The ways to authenticate (remote_auth_type) that need no talk.
const (
	authNone   = 0
	authPolkit = 2
)

// flagSparse (VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM, and the same for download) lets holes be sent as such.
const flagSparse = 1

// stream is a connection of its own to libvirtd, for one call and for the stream of bytes that the call opened: a
// console, a channel, a volume. It is a net.Conn. A Write that ran into its deadline has broken it.
type stream struct {
	conn   net.Conn
	in     *bufio.Reader
	call   header // of the call: its procedure and serial name the stream
	serial uint32

	received atomic.Int64 // bytes that were read

	read  sync.Mutex
	left  int   // bytes of the current packet that are still to be read
	hole  int64 // zeros that are still to be delivered
	ended error // why there is no more to read

	write  sync.Mutex
	packet []byte
	broken error
}

var _ net.Conn = (*stream)(nil)

// openStream greets libvirtd on a fresh connection and makes the call that opens the stream.
func openStream(conn net.Conn, uri string, procedure uint32, args body) (*stream, error) {
	s := &stream{conn: conn, in: bufio.NewReader(conn)}
	if err := s.greet(uri); err != nil {
		return nil, err
	}
	if _, err := s.do(procedure, args); err != nil {
		return nil, err
	}
	s.call = header{Procedure: procedure, Type: typeStream, Serial: s.serial}
	return s, nil
}

// greet authenticates and opens the driver that uri names.
func (s *stream) greet(uri string) error {
	reply, err := s.do(procAuthList, nil)
	if err != nil {
		return err
	}
	f := &fields{rest: reply}
	var offered []uint32
	for range min(f.word(), 20) { // REMOTE_AUTH_TYPE_LIST_MAX
		offered = append(offered, f.word())
	}
	switch {
	case f.bad:
		return errNotLibvirt
	case len(offered) == 0, slices.Contains(offered, authNone):
	case slices.Contains(offered, authPolkit):
		if _, err := s.do(procAuthPolkit, nil); err != nil {
			return err
		}
	default:
		return errSASL
	}
	_, err = s.do(procConnectOpen, body(nil).option(uri).word(0))
	return err
}

// do calls a procedure and returns its reply's body.
func (s *stream) do(procedure uint32, args body) ([]byte, error) {
	s.serial++
	h := header{Size: len(args), Procedure: procedure, Serial: s.serial}
	if _, err := s.conn.Write(append(h.append(nil), args...)); err != nil {
		return nil, err
	}
	var early []byte // of the stream that the call opens: libvirtd may send it before the reply
	for {
		h, err := peekHeader(s.in)
		if err != nil {
			return nil, unexpected(err)
		}
		reply := make([]byte, h.Size)
		if _, err := io.ReadFull(s.in, reply); err != nil {
			return nil, unexpected(err)
		}
		switch {
		case h.Serial != s.serial: // an event
		case h.Type != typeReply:
			early = append(h.append(early), reply...)
		case h.Status != statusOK:
			return nil, parseError(reply)
		default:
			if len(early) > 0 {
				s.in = bufio.NewReader(io.MultiReader(bytes.NewReader(early), s.in))
			}
			return reply, nil
		}
	}
}

// unexpected is the end of a connection where a message should have been.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read reads what the other end of the stream has written.
func (s *stream) Read(p []byte) (int, error) {
	s.read.Lock()
	defer s.read.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for s.left == 0 && s.hole == 0 {
		if s.ended == nil {
			if err := s.next(); err != nil {
				return 0, err
			}
		}
		if s.ended != nil {
			return 0, s.ended
		}
	}
	if s.hole > 0 {
		n := int(min(s.hole, int64(len(p))))
		clear(p[:n])
		s.hole -= int64(n)
		return n, nil
	}
	n, err := s.in.Read(p[:min(len(p), s.left)])
	s.left -= n
	s.received.Add(int64(n))
	return n, unexpected(err)
}

// next reads a header. An error is one of the connection, and may be a deadline's; the stream's end goes into s.ended.
func (s *stream) next() error {
	h, err := peekHeader(s.in)
	if err != nil {
		return unexpected(err)
	}
	mine := h.Serial == s.call.Serial && h.Procedure == s.call.Procedure
	if mine && h.Type == typeStream && h.Status == statusContinue && h.Size > 0 {
		s.left = h.Size
		return nil
	}
	rest := make([]byte, h.Size)
	if _, err := io.ReadFull(s.in, rest); err != nil {
		s.end(unexpected(err)) // half a message is lost, whatever the error
		return nil
	}
	switch {
	case !mine: // an event
	case h.Status == statusError:
		s.end(parseError(rest))
	case h.Type == typeHole:
		f := &fields{rest: rest} // struct virNetStreamHole
		if s.hole = int64(f.long()); f.bad || s.hole < 0 {
			s.hole = 0
			s.end(errNotLibvirt)
		}
	default:
		// The state 'ok': both ends are done. Or no data: the other end has closed (daemonStreamHandleRead in
		// libvirt's tree).
		s.end(io.EOF)
	}
	return nil
}

// end notes why there is no more to read, and hangs up at once. It must be at once: libvirtd forgets a console of a
// machine that is gone while it may still be asked to close it, and has been seen to hang for ever between the two
// (9.0.0: virChrdevFree against virChrdevFDStreamCloseCb). Before the domain's end is told, the way is clear.
func (s *stream) end(err error) {
	s.ended = err
	s.conn.Close()
}

// guard waits for the first thing that the other end sends, on behalf of a reader that may never come: see end.
func (s *stream) guard() {
	s.read.Lock()
	defer s.read.Unlock()
	for s.left == 0 && s.hole == 0 && s.ended == nil {
		if s.next() != nil {
			return
		}
	}
}

// Write sends p in packets.
func (s *stream) Write(p []byte) (int, error) {
	s.write.Lock()
	defer s.write.Unlock()
	sent := 0
	for len(p) > 0 {
		n := min(len(p), dataBytes)
		if err := s.send(typeStream, statusContinue, p[:n]); err != nil {
			return sent, err
		}
		sent, p = sent+n, p[n:]
	}
	return sent, nil
}

// skip sends a hole: struct virNetStreamHole.
func (s *stream) skip(n int64) error {
	s.write.Lock()
	defer s.write.Unlock()
	return s.send(typeHole, statusContinue, body(nil).long(uint64(n)).word(0))
}

// finish says that all is written. libvirtd's answer, the end of what there is to read, says that it has taken it.
func (s *stream) finish() error {
	s.write.Lock()
	defer s.write.Unlock()
	return s.send(typeStream, statusOK, nil)
}

// send writes one packet.
func (s *stream) send(kind, status uint32, data []byte) error {
	if s.broken != nil {
		return s.broken
	}
	h := s.call
	h.Type, h.Status, h.Size = kind, status, len(data)
	s.packet = append(h.append(s.packet[:0]), data...)
	if _, err := s.conn.Write(s.packet); err != nil {
		s.broken = fmt.Errorf("stream: %w", err)
		return s.broken
	}
	return nil
}

// Close hangs up: libvirtd then closes its end of what the stream led to.
func (s *stream) Close() error { return s.conn.Close() }

func (s *stream) LocalAddr() net.Addr                { return s.conn.LocalAddr() }
func (s *stream) RemoteAddr() net.Addr               { return s.conn.RemoteAddr() }
func (s *stream) SetDeadline(t time.Time) error      { return s.conn.SetDeadline(t) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.conn.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }
