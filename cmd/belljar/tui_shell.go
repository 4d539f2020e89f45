package main

import (
	"io"
	"sync"

	"golang.org/x/term"

	"github.com/belljar/belljar/pipeline"
)

// shellTerminal is the user's terminal, lent to a shell in a guest. It is taken at the first byte that is asked for
// or printed, and not before: while the guest boots, progress is shown and Ctrl-C is Ctrl-C.
type shellTerminal struct {
	s    *screen
	in   io.Reader
	size pipeline.ShellIO // Term is empty where there is no terminal

	mu     sync.Mutex
	taken  bool
	closed bool
	undo   func()
}

// takeTerminal lends out stdin and stdout; restore must follow.
func (s *screen) takeTerminal(in io.Reader, termType string) *shellTerminal {
	t := &shellTerminal{s: s, in: in, undo: func() {}}
	_, inOK := terminalOf(in)
	out, outOK := terminalOf(s.std.out)
	if !inOK || !outOK {
		return t
	}
	t.size.Term = termType
	if t.size.Term == "" {
		t.size.Term = "dumb"
	}
	if w, h, err := term.GetSize(int(out.Fd())); err == nil {
		t.size.Width, t.size.Height = w, h
	}
	return t
}

func (t *shellTerminal) Read(p []byte) (int, error) {
	t.take()
	return t.in.Read(p)
}

func (t *shellTerminal) Write(p []byte) (int, error) {
	t.take()
	return t.s.std.out.Write(p)
}

// take ends the progress and makes the terminal raw, once.
func (t *shellTerminal) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken || t.closed {
		return
	}
	t.taken = true
	t.s.finish(true)
	if t.size.Term == "" {
		return
	}
	t.s.setView(silent{})
	f, _ := terminalOf(t.in)
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return // a cooked shell is better than none
	}
	t.undo = func() { _ = term.Restore(int(f.Fd()), state) }
}

// restore gives the terminal back as it was.
func (t *shellTerminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.undo()
	t.s.finish(true)
}

// setView puts another view in the place of the one that finish has ended.
func (s *screen) setView(v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
}
