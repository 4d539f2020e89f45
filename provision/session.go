package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// Session is a guest with an agent at work. Its methods may be called from several goroutines; the agent takes
// one request at a time and the others wait. Shell goes beside them.
type Session struct {
	Hello wire.Hello // how the agent presented itself

	client *ssh.Client
	opts   Options
	agent  string // its path in the guest

	w *wire.Writer

	work sync.Mutex // held for the length of a request
	id   uint64

	msgs    chan *wire.Message
	gone    chan struct{} // closed when the agent's stream has ended
	readErr error         // why; to be read after gone
	closed  chan struct{} // closed by Close
	once    sync.Once

	last atomic.Pointer[wire.Stage] // what Shell takes its environment from
}

// read hands messages on one by one, so that a reader that falls behind holds up the agent and not this memory.
func (s *Session) read(r *wire.Reader) {
	defer close(s.gone)
	for {
		m, err := r.Read()
		if err != nil {
			s.readErr = err
			return
		}
		select {
		case s.msgs <- m:
		case <-s.closed:
			s.readErr = errors.New("session closed")
			return
		}
	}
}

// next takes a message, or says that the agent is gone, or that it was silent until the deadline.
func (s *Session) next(deadline <-chan time.Time) (*wire.Message, error) {
	select {
	case m := <-s.msgs:
		return m, nil
	case <-s.gone:
		return nil, s.lost()
	case <-deadline:
		return nil, fault.New(fault.Guest, "guest-agent", "it does not answer")
	}
}

// lost is the fault of an agent that went away in the middle. What it said last, and how it ended, stands on the guest's
// console.
func (s *Session) lost() error {
	cause := s.readErr
	if errors.Is(cause, io.EOF) {
		cause = errors.New("connection closed")
	}
	return fault.New(fault.Guest, "guest-agent", "lost: %w", cause)
}

// cancelGrace is how long the agent has to end a cancelled request before the connection is cut.
const cancelGrace = 5 * time.Second

// request sends m and hands every message before the answer to each. When ctx ends, the agent is asked to stop, and
// the error is ctx's cause: whoever watches the guest's console knows better than its agent what befell it.
func (s *Session) request(ctx context.Context, m *wire.Message, each func(*wire.Message)) (*wire.Message, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.id++
	m.ID = s.id
	if err := m.Check(); err != nil {
		return nil, err
	}
	if err := s.w.Write(m); err != nil {
		select {
		case <-s.gone:
			return nil, s.lost()
		case <-time.After(time.Second):
			return nil, fault.New(fault.Guest, "guest-agent", "request %s: %w", m.Kind, err)
		}
	}
	done := ctx.Done()
	var deadline <-chan time.Time
	for {
		select {
		case <-done:
			done, deadline = nil, time.After(cancelGrace)
			go func() { // may block on a dead guest; Close ends it
				_ = s.w.Write(&wire.Message{ID: m.ID, Kind: wire.KindCancel})
			}()
		case <-deadline:
			s.Close()
			return nil, context.Cause(ctx)
		case <-s.gone:
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, s.lost()
		case got := <-s.msgs:
			switch {
			case got.ID != m.ID: // a late word of a request that was given up
			case got.Kind == wire.KindResult && ctx.Err() != nil, got.Kind == wire.KindError && ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case got.Kind == wire.KindResult:
				return got, nil
			case got.Kind == wire.KindError:
				return nil, fault.New(fault.Guest, "guest-agent", "%s", got.Error.Text)
			case ctx.Err() == nil:
				s.note(got)
				each(got)
			}
		}
	}
}

func (s *Session) note(m *wire.Message) {
	if m.Kind == wire.KindStep {
		s.opts.Progress(m.Step.Text)
	}
}

func ignore(*wire.Message) {}

// errShape is an answer of the right kind with the wrong body.
func errShape(what wire.Kind) error {
	return fault.New(fault.Guest, "guest-agent", "it answered %q with something else", what)
}

// Probe has the agent look for a way out of the jar.
func (s *Session) Probe(ctx context.Context) (wire.Seal, error) {
	m, err := s.request(ctx, &wire.Message{Kind: wire.KindProbe, Probe: &wire.Probe{}}, ignore)
	if err != nil {
		return wire.Seal{}, err
	}
	if m.Seal == nil {
		return wire.Seal{}, errShape(wire.KindProbe)
	}
	return *m.Seal, nil
}

// Prepare puts everything in place for a stage but does not run its script: for a shell to look around.
func (s *Session) Prepare(ctx context.Context, st wire.Stage) error {
	s.last.Store(&st)
	_, err := s.request(ctx, &wire.Message{Kind: wire.KindPrepare, Stage: &st}, ignore)
	return err
}

// Run runs a stage and hands its log to log (which may be nil), line by line. A script that says no, runs too long or
// leaves out an output is a build failure, and the Result says more of it; an agent that is lost is a guest fault.
func (s *Session) Run(ctx context.Context, st wire.Stage, log func(line string)) (wire.Result, error) {
	return s.RunTaking(ctx, st, log, nil)
}

// RunTaking is Run, and tells t how much of the outputs has been written.
func (s *Session) RunTaking(ctx context.Context, st wire.Stage, log func(line string), t *Taking) (wire.Result, error) {
	s.last.Store(&st)
	lines := newLines(log)
	m, err := s.request(ctx, &wire.Message{Kind: wire.KindStage, Stage: &st}, func(m *wire.Message) {
		switch {
		case m.Kind == wire.KindLog:
			lines.add(m.Log.Data)
		case m.Kind == wire.KindWritten && t != nil:
			t.Written(m.Written.Size)
		}
	})
	lines.flush()
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			err = f.WithEvidence(lastLinesTitle, lines.last())
		}
		return wire.Result{}, fmt.Errorf("stage %s: %w", st.Name, err)
	}
	if m.Result == nil {
		return wire.Result{}, errShape(wire.KindStage)
	}
	return *m.Result, verdict(st, *m.Result, lines.last())
}

const lastLinesTitle = "last lines of the log"

// verdict is nil for a stage that went well.
func verdict(st wire.Stage, r wire.Result, last string) error {
	var why string
	switch {
	case r.Reason != "":
		why = r.Reason
	case r.Signal != "":
		why = "script killed by " + r.Signal
	case r.ExitCode > 128:
		why = fmt.Sprintf("script exited %d (a shell's word for a command killed by signal %d)",
			r.ExitCode, r.ExitCode-128)
	case r.ExitCode != 0:
		why = fmt.Sprintf("script exited %d", r.ExitCode)
	default:
		return nil
	}
	err := fault.New(fault.Build, "stage "+st.Name, "%s", why)
	switch {
	case r.ScratchFull > 0 && st.Tmpfs:
		err = fault.New(fault.Build, "stage "+st.Name, "%s; its scratch space in memory was full (%d MiB)", why, r.ScratchFull>>20).
			WithRemedy("leave the stage's 'scratch: tmpfs' out, so that it writes to the scratch disk, or give the stage more 'memory'")
	case r.ScratchFull > 0:
		err = fault.New(fault.Build, "stage "+st.Name, "%s; the scratch disk was full (%d MiB)", why, r.ScratchFull>>20).
			WithRemedy("give the guest a larger scratch disk: 'scratch' in its spec")
	}
	return err.WithEvidence(lastLinesTitle, last)
}

// Capture has the agent write an overlay's upper directory to a disk, as an archive for ReadStream.
func (s *Session) Capture(ctx context.Context, c wire.Capture) (wire.Captured, error) {
	m, err := s.request(ctx, &wire.Message{Kind: wire.KindCapture, Capture: &c}, ignore)
	if err != nil {
		return wire.Captured{}, fmt.Errorf("capture %s: %w", c.Upper, err)
	}
	if m.Captured == nil {
		return wire.Captured{}, errShape(wire.KindCapture)
	}
	return *m.Captured, nil
}

// Poweroff has the agent write everything back, and then the guest power itself off. The session is closed.
func (s *Session) Poweroff(ctx context.Context) error {
	_, err := s.request(ctx, &wire.Message{Kind: wire.KindPoweroff}, ignore)
	return errors.Join(err, s.Close())
}

// Close hangs up. An agent in the middle of a request ends it first, so that nothing of it goes on in the guest: the
// connection's end is the end of its input. (To end that alone is no way: a request may be writing to it.) Idempotent.
func (s *Session) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.client.Close()
	})
	<-s.gone
	return nil
}
