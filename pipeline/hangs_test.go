package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/qemu"
	"github.com/belljar/belljar/vm/watch"
)

// stopSSH makes a guest deaf: its sshd answers no more, and passes nothing on from the agent.
const stopSSH = `for p in /proc/[0-9]*; do
	[ "$(cat $p/comm)" != sshd ] || kill -STOP ${p#/proc/}
done
`

// Real guests that came to a standstill: each is told by what its processors did, its panic by its console.
func TestStandstills(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines; left out by -short")
	}
	dir := os.Getenv("BELLJAR_TEST_DIR")
	if dir == "" {
		dir = filepath.Join("..", ".cache", "test")
	}
	for _, c := range []struct{ name, script, want string }{
		// Its processors 'have slept', or 'none … asked for more than 41 %' where the host is busy: not 'ran'.
		{"sleeps", stopSSH + "sleep 1000", "s, no byte on console, disk or port; its last sign of life was "},
		{"spins", stopSSH + "while :; do :; done", "and nothing came of it, no byte on console, disk or port; its last sign of life was "},
		{"panics", "echo c >/proc/sysrq-trigger", "Kernel panic - not syncing: sysrq triggered crash"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := open(Config{Dir: dir, Version: "test", Report: func(e Event) { t.Log(e.Kind, e.Text) }})
			if err != nil {
				t.Fatal(err)
			}
			h.backend = &qemu.Backend{}
			h.limits = func(vm.Pace) watch.Limits {
				l := watch.Defaults(1)
				l.Every, l.Slow, l.Asleep, l.Busy = 100*time.Millisecond, time.Hour, 10*time.Second, 10*time.Second
				return l
			}
			err = h.standstill(t, c.script)
			wantFault(t, err, fault.Guest, c.want)
			if came := strings.Contains(err.Error(), "nothing came of it"); came != (c.name == "spins") {
				t.Errorf("%v: 'nothing came of it' is said of what spins, and of that alone", err)
			}
			said := ""
			for _, e := range fault.Chain(err) {
				for _, ev := range e.Evidence {
					said += ev.Title + "; "
				}
			}
			for _, title := range []string{"console, last lines", "its progress", "run it by hand", "as Belljar ran it"} {
				if strings.Count(said, title+"; ") != 1 {
					t.Errorf("evidence %q: want %q in it, once", said, title)
				}
			}
			t.Log(err)
		})
	}
}

// standstill boots SeaBIOS' guest and runs a script there as root.
func (h *house) standstill(t *testing.T, script string) error {
	t.Helper()
	spec := filepath.Join("..", "specs", "shipped", "roms", "seabios.yaml")
	p, err := makePlan(spec, "", "debian-bookworm-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	j, err := h.newJob(t.Context(), p, BuildOptions{Spec: spec, Accel: vm.TCG, Offline: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if j.run, err = h.runs.Create(t.Context(), "test standstill"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.run.Finish(vm.Passed, nil) }()
	if err := j.asked.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, err := j.run.Dir("guest")
	if err != nil {
		t.Fatal(err)
	}
	disks := stageDisks(dir)
	defer disks.remove()
	g, err := j.nodes[0].bootStage(t.Context(), dir, disks)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	_, err = g.Run(g.ctx, wire.Stage{
		Name: "standstill", Script: script, Root: true, WorkDir: "/build", OutDir: "/build/out",
		Env: map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, Timeout: 10 * time.Minute,
	}, nil)
	if err == nil {
		t.Fatal("the guest goes on")
	}
	return g.explain(err)
}
