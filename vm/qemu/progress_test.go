package qemu

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

// sampled takes samples until one is as it should be.
func sampled(t *testing.T, g *guest, what string, good func(vm.Progress) bool) vm.Progress {
	t.Helper()
	var p vm.Progress
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if p, err = g.Progress(t.Context()); err != nil {
			t.Fatal(err)
		}
		if good(p) {
			return p
		}
	}
	t.Fatalf("%s: not within a minute, the last sample is %+v", what, p)
	return p
}

// A machine that spins burns its processor, and a stopped QEMU is told from it: its monitor is mute.
func TestProgress(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine { return romMachine(t, dir, "pc-q35-6.2", "up", vmtest.Spin) })
	first := sampled(t, g, "a line and a second of spinning", func(p vm.Progress) bool {
		return p.Console == 2*int64(len("up\n")) && p.CPU > time.Second // on the serial and on the debug console
	})
	if first.Mute || first.Halted != "" || first.State == "T" || first.PID != g.PID() {
		t.Errorf("running: %+v", first)
	}
	if err := syscall.Kill(g.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := sampled(t, g, "stopped and mute", func(p vm.Progress) bool { return p.State == "T" && p.Mute })
	if stopped.CPU < first.CPU || stopped.Console != first.Console {
		t.Errorf("counters shrank: %+v, then %+v", first, stopped)
	}
	if err := syscall.Kill(g.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	sampled(t, g, "going on", func(p vm.Progress) bool { return !p.Mute && p.State != "T" && p.CPU > stopped.CPU })
	g.Close()
	if _, err := g.Progress(t.Context()); fault.KindOf(err) != fault.Guest {
		t.Errorf("a closed machine's progress: %v, want a guest fault", err)
	}
}

// A paused machine says so, and a sleeping one burns nothing.
func TestProgressOfAHaltedMachine(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine { return romMachine(t, dir, "pc-i440fx-6.2", "up", vmtest.Hang) })
	sampled(t, g, "its line", func(p vm.Progress) bool { return p.Console > 0 })
	if err := g.monitor.do(time.Minute, "stop"); err != nil {
		t.Fatal(err)
	}
	if p := sampled(t, g, "halted", func(p vm.Progress) bool { return p.Halted != "" }); p.Halted != "paused" || p.Full {
		t.Errorf("paused: %+v", p)
	}
	if err := g.monitor.do(time.Minute, "cont"); err != nil {
		t.Fatal(err)
	}
	sampled(t, g, "going on", func(p vm.Progress) bool { return p.Halted == "" })
}

func TestStat(t *testing.T) {
	state, _, err := stat(os.Getpid(), os.Getpid())
	if err != nil || state == "" {
		t.Errorf("state %q, %v", state, err)
	}
	if all, err := stands(os.Getpid()); err != nil || all == "" {
		t.Errorf("process: %q, %v", all, err)
	}
	var ran time.Duration
	for start := time.Now(); ran == 0 && time.Since(start) < time.Minute; {
		if ran, _, err = ranAndWaited(os.Getpid(), []int{os.Getpid(), syscall.Gettid()}); err != nil {
			t.Fatal(err)
		}
	}
	if ran == 0 {
		t.Error("this process has not run for a moment within a minute")
	}
	if _, _, err := ranAndWaited(os.Getpid(), []int{1 << 30}); err == nil {
		t.Error("a thread that is not there: no error")
	}
}
