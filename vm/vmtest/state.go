package vmtest

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// saved is a machine that has said its line and ticks, and its state.
func (s Suite) saved(t *testing.T) (vm.Machine, []byte) {
	t.Helper()
	dir := t.TempDir()
	m := s.Machine(t, dir, line, Tick)
	g := s.boot(t.Context(), t, m, dir)
	untilLine(t, g)
	saver, ok := g.(vm.Saver)
	if !ok {
		t.Fatalf("%T is no vm.Saver, though its backend is a vm.Restorer", g)
	}
	var state bytes.Buffer
	if err := await(t, "save", func() error { return saver.Save(t.Context(), &state) }); err != nil {
		t.Fatalf("save: %v", err)
	}
	if err := await(t, "close", g.Close); err != nil {
		t.Errorf("close after save: %v", err)
	}
	if err := await(t, "wait", g.Wait); err != nil {
		t.Errorf("wait after save and close: %v, want nil", err)
	}
	return m, state.Bytes()
}

// restore starts m from a state, in a folder of its own.
func (s Suite) restore(ctx context.Context, t *testing.T, m vm.Machine, state []byte) (vm.Guest, string, error) {
	t.Helper()
	dir := t.TempDir()
	g, err := s.Backend.(vm.Restorer).Restore(ctx, m, dir, bytes.NewReader(state))
	t.Cleanup(func() {
		if err == nil {
			g.Close()
		}
		leftovers(t, dir)
	})
	return g, dir, err
}

// restored: it ticks on and does not begin anew, as often as one likes.
func (s Suite) restored(t *testing.T) {
	m, state := s.saved(t)
	for range 2 {
		g, _, err := s.restore(t.Context(), t, m, state)
		if err != nil {
			t.Fatalf("restore: %v", err)
		}
		r := g.Console()
		buf := make([]byte, 64)
		n := await(t, "a tick", func() int {
			n, err := r.Read(buf)
			if err != nil {
				t.Errorf("console: %v", err)
			}
			return n
		})
		r.Close()
		if said := string(buf[:n]); strings.Trim(said, ".") != "" {
			t.Errorf("the restored machine said %q, want dots", said)
		}
		if err := await(t, "close", g.Close); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := await(t, "wait", g.Wait); err != nil {
			t.Errorf("wait after close: %v, want nil", err)
		}
	}
}

// badState: cut off, of another machine, or no state at all. None of them gets to run.
func (s Suite) badState(t *testing.T) {
	m, state := s.saved(t)
	other := m
	other.Memory *= 2
	for _, c := range []struct {
		name  string
		m     vm.Machine
		state []byte
	}{
		{"cut", m, state[:len(state)/2]}, {"of another machine", other, state}, {"empty", m, nil},
		{"noise", m, []byte(strings.Repeat("no state ", 1000))},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, dir, err := s.restore(t.Context(), t, c.m, c.state)
			if err == nil {
				g.Close()
				t.Fatal("restore: nil, want an error")
			}
			if fault.KindOf(err) != fault.Host {
				t.Errorf("restore: %v (%s), want a host fault", err, fault.KindOf(err))
			}
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("folder: %v", err)
			}
		})
	}
}
