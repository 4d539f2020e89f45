package console

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
)

// Lines calls f with each line of r, cleaned, until r ends; a last line without its end counts. It ends early with
// ctx: then r is closed, if it can be.
func Lines(ctx context.Context, r io.Reader, f func(line string)) error {
	if c, ok := r.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
	}
	var c cleaner
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if c.push(b) {
				f(c.take())
			}
		}
		if err == nil && ctx.Err() == nil {
			continue
		}
		if len(c.line) > 0 {
			f(c.take())
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		}
		return err
	}
}

// Clean is text from a console made safe for a terminal: its lines, cleaned, each with its end.
func Clean(s string) string {
	var b strings.Builder
	_ = Lines(context.Background(), strings.NewReader(s), func(line string) { b.WriteString(line + "\n") })
	return b.String()
}

// Tail keeps the last lines of many. It is safe for concurrent use.
type Tail struct {
	mu    sync.Mutex
	lines []string
	next  int
	full  bool
}

// NewTail keeps n lines.
func NewTail(n int) *Tail { return &Tail{lines: make([]string, max(n, 1))} }

// Add takes a line.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines[t.next] = line
	t.next = (t.next + 1) % len(t.lines)
	t.full = t.full || t.next == 0
}

// Lines are the kept lines, oldest first.
func (t *Tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		return append([]string(nil), t.lines[:t.next]...)
	}
	return append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
}

// Last is the newest line, or "".
func (t *Tail) Last() string {
	if l := t.Lines(); len(l) > 0 {
		return l[len(l)-1]
	}
	return ""
}

func (t *Tail) String() string { return strings.Join(t.Lines(), "\n") }
