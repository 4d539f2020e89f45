package vm

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
)

// Life is what is known of a machine's life, whichever backend runs it: what was heard of it, how it is being ended, and
// whether and why it is gone. A backend's guest has one in it.
type Life struct {
	Name string // the machine's
	gone chan struct{}

	mu      sync.Mutex
	seen    []Event
	ended   Ended // set by End
	cause   error // set when the context ended the machine
	verdict error // stands when gone is closed

	ending  sync.Once
	probing sync.Mutex
}

// NewLife begins one.
func NewLife(name string) *Life { return &Life{Name: name, gone: make(chan struct{})} }

// Hear keeps an event, and writes it to the events log if that is not nil.
func (l *Life) Hear(e Event, log *os.File) {
	l.mu.Lock()
	l.seen = append(l.seen, e)
	l.mu.Unlock()
	if log != nil {
		_ = json.NewEncoder(log).Encode(e)
	}
}

// Events are the monitor's events so far.
func (l *Life) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.seen...)
}

// Resets counts how often the guest has reset the machine.
func (l *Life) Resets() int { return CountResets(l.Events()) }

// Cancelled notes that the machine's context ends it.
func (l *Life) Cancelled(ctx context.Context) {
	l.mu.Lock()
	l.cause = context.Cause(ctx)
	l.mu.Unlock()
}

// Blame notes why the machine is killed, if it was not about to end anyway.
func (l *Life) Blame(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil && l.ended == "" {
		l.cause = cause
	}
}

// Decide turns the machine's end into Wait's answer. died is the fault of one that ended for no reason that the guest or
// Belljar gave; evidence adds what each side printed.
func (l *Life) Decide(died func() error, evidence func(*fault.Error) *fault.Error) {
	l.mu.Lock()
	end := Ending{Events: l.seen, Ended: l.ended, Cause: l.cause}
	l.mu.Unlock()
	err, known := Judge(l.Name, end)
	if !known {
		err = died()
	} else if e, ok := err.(*fault.Error); ok { //nolint:errorlint // a fault in the context's cause has its own evidence
		err = evidence(e)
	}
	l.mu.Lock()
	l.verdict = err
	l.mu.Unlock()
}

// Bury says that the machine is gone: Decide was called, and nothing is left of it.
func (l *Life) Bury() { close(l.gone) }

// Gone is closed when the machine is gone.
func (l *Life) Gone() <-chan struct{} { return l.gone }

// IsGone says whether it is.
func (l *Life) IsGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// Wait blocks until the machine is gone.
func (l *Life) Wait() error {
	<-l.gone
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verdict
}

var errEnded = errors.New("it ended by itself")

// TooLate is the fault of whoever asks for something of a machine that is gone.
func (l *Life) TooLate(op string) error {
	why := l.Wait()
	if why == nil {
		why = errEnded
	}
	return fault.New(fault.Guest, op, "the machine is gone: %w", why)
}

// Probe begins a sample for Progress; done ends it. One is taken at a time.
func (l *Life) Probe(ctx context.Context) (done func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if l.IsGone() {
		return nil, l.TooLate("progress of " + l.Name)
	}
	l.probing.Lock()
	return l.probing.Unlock, nil
}

// Way is one way to end a machine.
type Way struct {
	How Ended
	Ask func() // returns within the grace period
}

// End tries the ways, one after another, each for the grace period, then kill; it returns when the machine is gone.
// Ended tells which of them it took.
func (l *Life) End(grace time.Duration, kill func(), ways ...Way) {
	l.ending.Do(func() {
		for _, w := range ways {
			if l.IsGone() {
				return
			}
			l.setEnded(w.How)
			deadline := time.After(grace)
			w.Ask()
			select {
			case <-l.gone:
			case <-deadline:
			}
		}
		if !l.IsGone() {
			l.setEnded(EndedKilled)
			kill()
		}
	})
	<-l.gone
}

func (l *Life) setEnded(how Ended) {
	l.mu.Lock()
	l.ended = how
	l.mu.Unlock()
}

// Ended says how the machine ended; empty while it runs.
func (l *Life) Ended() Ended {
	if !l.IsGone() {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == "" {
		return EndedItself
	}
	return l.ended
}
