package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/belljar/belljar/guest-agent/wire"
)

// logger passes a script's output on: the first headSize bytes as they come, of the rest the last tailSize at the end.
type logger struct {
	send   func(stream string, data []byte) error
	step   func(string, ...any)
	broken bool // the host is gone: what comes is dropped, so that the script can end

	total   int64
	ring    []byte // the last bytes after the head; full, it starts at total%tailSize
	shownAt time.Time
	newline bool // the head ended with one
	midline bool // what came last did not

	active  atomic.Int64 // when the script last wrote, in nanoseconds since birth
	blocked atomic.Bool  // waiting for the host, not for the script
	birth   time.Time
}

const (
	headSize = 8 << 20
	tailSize = 8 << 20
)

func newLogger(send func(stream string, data []byte) error, step func(string, ...any)) *logger {
	return &logger{send: send, step: step, birth: time.Now()}
}

// silent is how long the script has said nothing. Time in which the host would not listen does not count.
func (l *logger) silent() time.Duration {
	if l.blocked.Load() {
		return 0
	}
	return time.Since(l.birth) - time.Duration(l.active.Load())
}

// pump reads the script's output to its end.
func (l *logger) pump(r *os.File) {
	buf := make([]byte, wire.LogChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			l.blocked.Store(true)
			l.write(buf[:n])
			l.active.Store(int64(time.Since(l.birth)))
			l.blocked.Store(false)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "agent: read log:", err)
			}
			return
		}
	}
}

func (l *logger) write(p []byte) {
	l.midline = p[len(p)-1] != '\n'
	if room := headSize - l.total; room > 0 {
		n := min(room, int64(len(p)))
		l.put(wire.Output, p[:n])
		l.newline = p[n-1] == '\n'
		l.total += n
		p = p[n:]
	}
	if len(p) == 0 {
		return
	}
	l.show(p)
	for len(p) > 0 {
		var n int
		if at := (l.total - headSize) % tailSize; int64(len(l.ring)) < tailSize {
			n = min(len(p), tailSize-len(l.ring))
			l.ring = append(l.ring, p[:n]...)
		} else {
			n = copy(l.ring[at:], p)
		}
		l.total += int64(n)
		p = p[n:]
	}
}

func (l *logger) put(stream string, p []byte) {
	if l.broken || len(p) == 0 {
		return
	}
	if err := l.send(stream, p); err != nil {
		l.broken = true
	}
}

// show lets whoever watches see a line now and then of what is not sent yet.
func (l *logger) show(p []byte) {
	i := bytes.LastIndexByte(p, '\n')
	if i < 0 || time.Since(l.shownAt) < time.Second || l.broken {
		return
	}
	line := p[bytes.LastIndexByte(p[:i], '\n')+1 : i]
	l.shownAt = time.Now()
	l.step("%s", bytes.ToValidUTF8(line[:min(len(line), 512)], nil))
}

// finish sends what was held back, and says what was left out.
func (l *logger) finish() {
	held := l.total - headSize
	if held <= 0 {
		return
	}
	at := 0
	if held > tailSize {
		at = int(held % tailSize)
		note := fmt.Sprintf("[%d bytes of the log left out here]\n", held-tailSize)
		if !l.newline {
			note = "\n" + note
		}
		l.put(wire.Agent, []byte(note))
	}
	for _, part := range [][]byte{l.ring[at:], l.ring[:at]} {
		for len(part) > 0 {
			n := min(len(part), wire.LogChunk)
			l.put(wire.Output, part[:n])
			part = part[n:]
		}
	}
}

// note adds a remark of the agent's own, a line, behind all that the script said.
func (l *logger) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...) + "\n"
	if l.midline {
		text = "\n" + text
	}
	l.midline = false
	l.put(wire.Agent, []byte(text))
}
