package vm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

func plainly(e *fault.Error) *fault.Error { return e.WithEvidence("seen", "it all") }

// End asks in the order that it is given, and kills what does not heed.
func TestLifeEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		heeds Ended // the way that the machine heeds
		want  Ended
	}{
		{"powers off", EndedPowered, EndedPowered},
		{"hangs, and its QEMU quits", EndedQuit, EndedQuit},
		{"heeds nothing", EndedKilled, EndedKilled},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLife("m")
			end := func() {
				l.Decide(func() error { return errors.New("died") }, plainly)
				l.Bury()
			}
			way := func(how Ended) Way {
				return Way{How: how, Ask: func() {
					if how == c.heeds {
						end()
					}
				}}
			}
			if l.Ended() != "" {
				t.Error("it ended before its end")
			}
			l.End(time.Millisecond, end, way(EndedPowered), way(EndedQuit))
			l.End(time.Millisecond, func() { t.Error("killed once more") })
			if err := l.Wait(); err != nil || l.Ended() != c.want {
				t.Errorf("%q, %v; want %q", l.Ended(), err, c.want)
			}
		})
	}
}

func TestLifeDecide(t *testing.T) {
	died := fault.New(fault.Host, "run m", "QEMU ended on its own")
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no patience"))
	for _, c := range []struct {
		name string
		set  func(l *Life)
		want string
		seen bool // with evidence
	}{
		{"on its own", func(*Life) {}, "QEMU ended on its own", false},
		{"panic", func(l *Life) { l.Hear(Event{Name: "GUEST_PANICKED"}, nil) }, "panicked", true},
		{"its context", func(l *Life) { l.Cancelled(over) }, "no patience", false},
		{"its TPM", func(l *Life) { l.Blame(errors.New("swtpm died")); l.Blame(errors.New("and more")) }, "swtpm died", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLife("m")
			c.set(l)
			l.Decide(func() error { return died }, plainly)
			l.Bury()
			err := l.Wait()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want …%s…", err, c.want)
			}
			if e, ok := errors.AsType[*fault.Error](err); c.seen && (!ok || len(e.Evidence) != 1) {
				t.Errorf("%v has no evidence", err)
			}
			if l.Ended() != EndedItself {
				t.Errorf("ended: %q", l.Ended())
			}
			if _, err := l.Probe(t.Context()); fault.KindOf(err) != fault.Guest || !strings.Contains(err.Error(), c.want) {
				t.Errorf("a sample of the dead: %v", err)
			}
		})
	}
}

// Samples are taken one at a time, and none for a caller who has gone.
func TestLifeProbe(t *testing.T) {
	l := NewLife("m")
	done, err := l.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan struct{})
	go func() {
		defer close(next)
		if done, err := l.Probe(t.Context()); err == nil {
			done()
		}
	}()
	select {
	case <-next:
		t.Error("two samples at once")
	case <-time.After(10 * time.Millisecond):
	}
	done()
	<-next
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
