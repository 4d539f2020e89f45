package libvirt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// packets are what libvirtd may send on an open stream.
func packets(all ...[]byte) []byte { return bytes.Join(all, nil) }

var testCall = header{Procedure: procDomainOpenChannel, Type: typeStream, Serial: 3}

func packet(kind, status uint32, data []byte) []byte {
	h := testCall
	h.Type, h.Status, h.Size = kind, status, len(data)
	return append(h.append(nil), data...)
}

// errorBody is a virNetMessageError: code, domain, an optional message, level.
func errorBody(code uint32, message string) []byte {
	return body(nil).word(code).word(0).option(message).word(2)
}

// received is what a stream reads of what the other end sent.
func received(t testing.TB, sent []byte) ([]byte, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Write(sent)
		theirs.Close()
	}()
	s := &stream{conn: ours, in: bufio.NewReader(ours), call: testCall}
	defer s.Close()
	return io.ReadAll(io.LimitReader(s, 1<<20))
}

func TestStreamReads(t *testing.T) {
	data := func(s string) []byte { return packet(typeStream, statusContinue, []byte(s)) }
	other := testCall
	other.Serial, other.Size = 9, 4
	event := append(other.append(nil), "data"...)
	eof := packet(typeStream, statusContinue, nil)
	for _, c := range []struct {
		name string
		sent []byte
		want string
		err  string // part of it; empty is none
	}{
		{"data, then its end", packets(data("one "), data("two"), eof), "one two", ""},
		{"both ends are done", packets(data("x"), packet(typeStream, statusOK, nil)), "x", ""},
		{"nothing", eof, "", ""},
		{"an event between", packets(data("a"), event, data("b"), eof), "ab", ""},
		{"a hole", packets(data("a"), packet(typeHole, statusContinue, body(nil).long(3).word(0)), data("b"), eof), "a\x00\x00\x00b", ""},
		{"libvirt's error", packets(data("a"), packet(typeStream, statusError, errorBody(38, "it broke"))), "a", "it broke"},
		{"an error without a message", packet(typeStream, statusError, []byte{0, 0, 0, 7}), "", "libvirt error 7"},
		{"the connection breaks between packets", data("a"), "a", "unexpected EOF"},
		{"the connection breaks in a header", packets(data("a"), eof[:10]), "a", "unexpected EOF"},
		{"the connection breaks in a packet", data("abcd")[:30], "ab", "unexpected EOF"},
		{"a hole that is cut off", packet(typeHole, statusContinue, []byte{0, 0}), "", "does not speak"},
		{"a negative hole", packet(typeHole, statusContinue, body(nil).long(1<<63).word(0)), "", "does not speak"},
		{"too long", []byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), "", "does not speak"},
		{"too short", make([]byte, 40), "", "does not speak"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := received(t, c.sent)
			if string(got) != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// A deadline in the middle of a header or of data loses nothing.
func TestStreamDeadlines(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := &stream{conn: ours, in: bufio.NewReader(ours), call: testCall}
	defer s.Close()
	sent := packet(typeStream, statusContinue, []byte("whole"))
	for _, cut := range []int{0, 10, headerBytes, headerBytes + 2, len(sent)} {
		go func() { _, _ = theirs.Write(sent[:cut]) }()
		if err := s.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		buf := make([]byte, 8)
		n, err := s.Read(buf)
		for got = append(got, buf[:n]...); err == nil; got = append(got, buf[:n]...) {
			n, err = s.Read(buf)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: %v, want the deadline", cut, err)
		}
		go func() { _, _ = theirs.Write(sent[cut:]) }()
		if err := s.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for len(got) < 5 {
			n, err := s.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		if string(got) != "whole" {
			t.Errorf("cut at %d: %q", cut, got)
		}
	}
}

func TestStreamWrites(t *testing.T) {
	ours, theirs := net.Pipe()
	s := &stream{conn: ours, in: bufio.NewReader(ours), call: testCall}
	big := bytes.Repeat([]byte("0123456789"), dataBytes/10+3)
	go func() {
		_, _ = s.Write(big)
		_ = s.skip(1 << 40)
		_ = s.finish()
		s.Close()
	}()
	got, err := io.ReadAll(theirs)
	if err != nil {
		t.Fatal(err)
	}
	want := packets(
		packet(typeStream, statusContinue, big[:dataBytes]), packet(typeStream, statusContinue, big[dataBytes:]),
		packet(typeHole, statusContinue, []byte{0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}), packet(typeStream, statusOK, nil))
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d others", len(got), len(want))
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a write after the close: nil, want an error")
	}
}

// What libvirtd sends of a stream before it answers the call that opens it is not lost.
func TestStreamBeforeReply(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	go func() {
		_, _ = theirs.Write(packets(
			reply(1, body(nil).word(0)), reply(2, nil),
			packet(typeStream, statusContinue, []byte("early ")), reply(3, nil), packet(typeStream, statusContinue, []byte("late")),
			packet(typeStream, statusContinue, nil)))
	}()
	s, err := openStream(ours, "qemu:///system", procDomainOpenChannel, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); string(got) != "early late" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func reply(serial uint32, b []byte) []byte {
	return append(header{Size: len(b), Type: typeReply, Serial: serial}.append(nil), b...)
}

// The encoding of RFC 4506, by hand.
func TestXDR(t *testing.T) {
	got := body(nil).word(1).long(2).text("abcde").option("").text("four")
	want := "\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x05abcde\x00\x00\x00" +
		"\x00\x00\x00\x01\x00\x00\x00\x00" + "\x00\x00\x00\x04four"
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	f := &fields{rest: got}
	if f.word() != 1 || f.long() != 2 || f.text() != "abcde" || f.word() != 1 || f.text() != "" || f.text() != "four" || f.bad {
		t.Errorf("does not read back: %+v", f)
	}
	if f.text(); !f.bad {
		t.Error("a text after the end: good, want bad")
	}
}

// Whatever a daemon sends, a stream ends, and hands out no more than was sent as data or announced as a hole.
func FuzzStream(f *testing.F) {
	f.Add(packets(packet(typeStream, statusContinue, []byte("data")), packet(typeStream, statusContinue, nil)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		got, err := received(t, sent)
		if len(got) > 1<<20 || err == nil && len(sent) < headerBytes {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// The greeting is the first that anybody says who listens there.
func FuzzGreeting(f *testing.F) {
	f.Add(packets(reply(1, body(nil).word(1).word(authNone)), reply(2, nil), reply(3, nil)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = theirs.Write(sent)
			theirs.Close()
		}()
		if s, err := openStream(ours, "qemu:///system", procDomainOpenChannel, nil); (s == nil) == (err == nil) {
			t.Errorf("%v, %v", s, err)
		}
		ours.Close()
	})
}
