package provision

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/fault"
)

// Terminal is a person's, lent to a shell in the guest.
type Terminal struct {
	In      io.Reader
	Out     io.Writer
	Term    string // $TERM; empty is dumb
	Size    Size
	Resized <-chan Size // each new size; may be nil
}

// Size is a terminal's, in characters.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// Shell gives a person a shell in the guest: as the stage's user, in its folder, with its environment, of the stage
// that was last handed to Prepare or Run. It returns the shell's exit code when the shell has ended: what it is
// is no error. Several may go on at once.
func (s *Session) Shell(ctx context.Context, t Terminal) (code int, err error) {
	st := s.last.Load()
	if st == nil {
		return 0, fault.New(fault.Unknown, "shell", "no stage was prepared")
	}
	// The script is left out: it may be longer than a command line, and a shell has no use for it.
	bare := *st
	bare.Script = ""
	spec, err := json.Marshal(bare)
	if err != nil {
		return 0, err
	}
	sess, err := s.client.NewSession()
	if err != nil {
		return 0, fault.New(fault.Guest, "shell", "%w", err)
	}
	defer sess.Close()
	if t.Term == "" {
		t.Term = "dumb"
	}
	if err := sess.RequestPty(t.Term, t.Size.Height, t.Size.Width, ssh.TerminalModes{}); err != nil {
		return 0, fault.New(fault.Guest, "shell", "terminal: %w", err)
	}
	in, err := sess.StdinPipe()
	if err != nil {
		return 0, fault.New(fault.Guest, "shell", "%w", err)
	}
	out := &shared{w: t.Out}
	sess.Stdout, sess.Stderr = out, out // written to by a goroutine each
	stop := context.AfterFunc(ctx, func() { sess.Close() })
	defer stop()
	command := "exec " + shellQuote(s.agent) + " shell " + base64.StdEncoding.EncodeToString(spec)
	if err := sess.Start(command); err != nil {
		return 0, fault.New(fault.Guest, "shell", "%w", err)
	}
	// Not sess.Stdin: Wait would wait for a terminal that has nothing more to say.
	go func() {
		_, _ = io.Copy(in, t.In)
		in.Close()
	}()
	ended := make(chan struct{})
	defer close(ended)
	go resize(sess, t.Resized, ended)
	return exitStatus(ctx, sess.Wait())
}

// exitStatus reads what a session's end says.
func exitStatus(ctx context.Context, err error) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return exit.ExitStatus(), nil
	}
	if err != nil {
		return 0, fault.New(fault.Guest, "shell", "%w", err)
	}
	return 0, nil
}

// resize tells the guest each new size (RFC 4254, section 6.7) until the shell has ended.
func resize(sess *ssh.Session, sizes <-chan Size, ended <-chan struct{}) {
	for {
		select {
		case s := <-sizes:
			_ = sess.WindowChange(s.Height, s.Width) // a shell of the wrong width is better than none
		case <-ended:
			return
		}
	}
}

// shared is a writer for several goroutines.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
