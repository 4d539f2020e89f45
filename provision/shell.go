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

// Shell gives a person a shell in the guest: as the stage's user, in its folder, with its environment, of the stage
// that was last handed to Prepare or Run. It returns when the shell ends; the shell's exit status is not an error.
func (s *Session) Shell(ctx context.Context, stdin io.Reader, stdout io.Writer, term string, w, h int) error {
	st := s.last.Load()
	if st == nil {
		return fault.New(fault.Unknown, "shell", "no stage was prepared")
	}
	// The script is left out: it may be longer than a command line, and a shell has no use for it.
	bare := *st
	bare.Script = ""
	spec, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	sess, err := s.client.NewSession()
	if err != nil {
		return fault.New(fault.Guest, "shell", "%w", err)
	}
	defer sess.Close()
	if term == "" {
		term = "dumb"
	}
	if err := sess.RequestPty(term, h, w, ssh.TerminalModes{}); err != nil {
		return fault.New(fault.Guest, "shell", "terminal: %w", err)
	}
	in, err := sess.StdinPipe()
	if err != nil {
		return fault.New(fault.Guest, "shell", "%w", err)
	}
	out := &shared{w: stdout}
	sess.Stdout, sess.Stderr = out, out // written to by a goroutine each
	s.shell.Store(sess)
	defer s.shell.Store(nil)
	stop := context.AfterFunc(ctx, func() { sess.Close() })
	defer stop()
	command := "exec " + shellQuote(s.agent) + " shell " + base64.StdEncoding.EncodeToString(spec)
	if err := sess.Start(command); err != nil {
		return fault.New(fault.Guest, "shell", "%w", err)
	}
	// Not sess.Stdin: Wait would wait for a terminal that has nothing more to say.
	go func() {
		_, _ = io.Copy(in, stdin)
		in.Close()
	}()
	err = sess.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*ssh.ExitError](err); ok || err == nil {
		return nil
	}
	return fault.New(fault.Guest, "shell", "%w", err)
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

// Resize tells a running Shell its terminal's new size.
func (s *Session) Resize(w, h int) error {
	if sess := s.shell.Load(); sess != nil {
		return sess.WindowChange(h, w)
	}
	return nil
}
