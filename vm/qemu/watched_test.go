package qemu

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
	"github.com/belljar/belljar/vm/watch"
)

// The watchdog tells real machines apart: one that sleeps, one that spins, one that starts over and over, and one whose
// QEMU was stopped. Its limits are a hundredth of what they are for guests.
func TestWatched(t *testing.T) {
	limits := watch.Limits{
		Every: 100 * time.Millisecond, Slow: time.Hour, Asleep: time.Second, Busy: time.Second, First: time.Second,
		Held: time.Second, Mute: time.Minute, Resets: 5,
	}
	for _, c := range []struct {
		name string
		act  vmtest.Act
		stop bool // QEMU
		kind fault.Kind
		want string
	}{
		{"sleeps", vmtest.Hang, false, fault.Guest, "it hangs: its processors have slept for 1s"},
		{"spins", vmtest.Spin, false, fault.Guest, "and nothing came of it"},
		{"resets", vmtest.Reset, false, fault.Guest, "it starts over and over: "},
		{"stopped", vmtest.Hang, true, fault.Host, "is stopped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := boot(t, func(dir string) vm.Machine {
				m := romMachine(t, dir, "pc-q35-6.2", "up", c.act)
				m.OnReset = "" // really
				return m
			})
			sampled(t, g, "its line", func(p vm.Progress) bool { return p.Console > 0 })
			if c.stop {
				if err := syscall.Kill(g.PID(), syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			guard := watch.NewGuard(g, limits)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := guard.Watch(ctx, func(string) {})
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v (%s), want a %s with %q\n%s", err, fault.KindOf(err), c.kind, c.want, guard.Samples())
			}
			told := guard.Explain(fault.New(c.kind, "test", "%w", err), g.Dir)
			titles := ""
			for _, ev := range told.Evidence {
				titles += ev.Title + "; "
			}
			const want = "console, last lines; debug console, last lines; QEMU's events; its progress; run it by hand; as Belljar ran it; "
			if titles != want {
				t.Errorf("evidence %q, want %q", titles, want)
			}
			t.Logf("%v\n%s", err, guard.Samples())
		})
	}
}
