package main

import (
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/belljar/belljar/pipeline"
)

// shellTerminal is the user's terminal, lent to a shell in a guest. It is taken at the first byte that is asked for
// or printed, and not before: while the guest boots, progress is shown and Ctrl-C is Ctrl-C.
type shellTerminal struct {
	s       *screen
	in      io.Reader
	term    string // $TERM; empty where there is no terminal
	size    pipeline.ShellSize
	resized chan pipeline.ShellSize // its newest size

	mu     sync.Mutex
	taken  bool
	closed bool
	undo   func()

	unwatch func()
}

// takeTerminal lends out stdin and stdout; restore must follow.
func (s *screen) takeTerminal(in io.Reader, termType string) *shellTerminal {
	t := &shellTerminal{s: s, in: in, undo: func() {}, unwatch: func() {}, resized: make(chan pipeline.ShellSize, 1)}
	_, inOK := terminalOf(in)
	out, outOK := terminalOf(s.std.out)
	if !inOK || !outOK {
		return t
	}
	t.term = termType
	if t.term == "" {
		t.term = "dumb"
	}
	t.size.Width, t.size.Height = sizeOf(out)
	t.watch(out)
	return t
}

// watch follows the terminal's size.
func (t *shellTerminal) watch(out *os.File) {
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	t.unwatch = func() {
		signal.Stop(changed)
		close(done)
	}
	go func() {
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			select {
			case <-t.resized: // nobody has taken the one before
			default:
			}
			var s pipeline.ShellSize
			s.Width, s.Height = sizeOf(out)
			t.resized <- s // this goroutine alone fills it
		}
	}()
}

// io is the terminal as the pipeline takes it.
func (t *shellTerminal) io() pipeline.ShellIO {
	return pipeline.ShellIO{In: t, Out: t, Term: t.term, Size: t.size, Resized: t.resized}
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
	if t.term == "" {
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
	t.unwatch()
	t.undo()
	t.s.finish(true)
}

// setView puts another view in the place of the one that finish has ended.
func (s *screen) setView(v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
}
