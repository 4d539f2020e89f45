package pipeline

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// watched is a fake guest under watch.
func watched(t *testing.T, s fake.Script) (*booted, *heard) {
	t.Helper()
	h, said := newHouse(t, s)
	p, _ := h.toyPlan(t)
	m := machine(p.guest, p.locked)
	m.Name, m.Accel, m.Ports = "toy", vm.TCG, []string{sshPort}
	dir := t.TempDir()
	guest, err := h.backend.Start(t.Context(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &booted{guest: guest, dir: dir, parent: t.Context(), read: make(chan struct{}), trail: newTrail()}
	g.ctx, g.stop = context.WithCancelCause(t.Context())
	h.watch(g, PhaseStage, "toy")
	t.Cleanup(func() { g.Close() })
	return g, said
}

// What ends a guest is what the user hears of, with all that its machine left; what does not, does not.
func TestWatched(t *testing.T) {
	connection := fault.New(fault.Guest, "guest-agent", "lost: connection closed")
	for _, c := range []struct {
		name   string
		script fake.Script
		kind   fault.Kind
		want   string
	}{
		{"panic", fake.Script{Lines: fake.Say("up", "[   4.1] Kernel panic - not syncing: sysrq triggered crash"), End: fake.Stays},
			fault.Guest, "its console says: [   4.1] Kernel panic - not syncing: sysrq triggered crash"},
		{"init gives up", fake.Script{Lines: fake.Say("belljar: FATAL: no disk root"), End: fake.Stays},
			fault.Guest, "its console says: belljar: FATAL: no disk root"},
		{"powers off", fake.Script{Lines: fake.Say("up"), End: fake.PowersOff}, fault.Guest, "it went away"},
		{"resets", fake.Script{Lines: fake.Say("up"), End: fake.Resets}, fault.Guest, "reset the machine"},
		{"disk full", fake.Script{Lines: fake.Say("up"), End: fake.Stays, Progress: []vm.Progress{{Halted: "io-error", Full: true}}},
			fault.Host, "the host's disk is full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, _ := watched(t, c.script)
			select {
			case <-g.ctx.Done():
			case <-time.After(time.Minute):
				t.Fatal("the guest was not stopped within a minute")
			}
			err := g.explain(connection)
			wantFault(t, err, c.kind, filepath.Base(g.dir)+": ", c.want)
			said := map[string]int{}
			for _, e := range fault.Chain(err) {
				for _, ev := range e.Evidence {
					said[ev.Title]++
				}
			}
			if said["console, last lines"] != 1 || said["run it by hand"] != 1 {
				t.Errorf("evidence %v: want the console and the command line, once each", said)
			}
		})
	}
}

// A kernel on a busy host doubts itself, and goes on.
func TestDoubtsEndNoGuest(t *testing.T) {
	g, _ := watched(t, fake.Script{Lines: fake.Say("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cc1:77]", "goes on"), End: fake.Stays})
	r := g.guest.Console()
	defer r.Close()
	text := ""
	for buf := make([]byte, 256); !strings.Contains(text, "goes on"); {
		n, err := r.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil { // the console has been read to its end then
		t.Fatal(err)
	}
	if err := context.Cause(g.ctx); fault.KindOf(err) != fault.Unknown && !strings.Contains(err.Error(), "went away") {
		t.Errorf("stopped by %v", err)
	}
}

// A build whose compiler was killed for want of memory says no more than 'Killed': the kernel says why. That is still
// the build's failure, with the guest's remedy.
func TestOutOfMemoryIsTold(t *testing.T) {
	const line = "Out of memory: Killed process 812 (cc1plus) total-vm:914000kB"
	g, _ := watched(t, fake.Script{Lines: fake.Say(line, "belljar: FATAL: end of the script"), End: fake.Stays})
	<-g.ctx.Done()
	err := g.explain(fault.New(fault.Build, "stage rom", "script exited 2"))
	wantFault(t, err, fault.Build, "stage rom: script exited 2; before that the guest ran out of memory: "+line)
	if chain := fault.Chain(err); !strings.Contains(chain[0].Remedy, "memory") {
		t.Errorf("remedy %q", chain[0].Remedy)
	}
	wantFault(t, g.explain(fault.New(fault.Guest, "guest-agent", "lost")), fault.Guest, line)
}
