package qemu

import (
	"image"
	"image/color"
	"image/png"
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
	var all []times
	for start := time.Now(); len(all) == 0 || all[0].ran == 0 && time.Since(start) < time.Minute; {
		if all, err = ranAndWaited(os.Getpid(), []int{os.Getpid(), syscall.Gettid()}); err != nil {
			t.Fatal(err)
		}
	}
	if all[0].ran == 0 {
		t.Error("this process has not run for a moment within a minute")
	}
	if _, err := ranAndWaited(os.Getpid(), []int{1 << 30}); err == nil {
		t.Error("a thread that is not there: no error")
	}
}

// A machine's screen is there to be looked at, with nobody watching it. SeaBIOS' VGA BIOS draws on it.
func TestScreendump(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine {
		m := romMachine(t, dir, "pc-q35-6.2", "up", vmtest.Hang)
		m.Boot, m.Screen = vm.Boot{}, true // QEMU's own firmware
		return m
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		path, err := g.Screendump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// VGA's text mode has 720 by 400 pixels; before it is set, QEMU draws a notice of another size.
		if drawn := readPNG(t, path); drawn.Bounds().Size() == image.Pt(720, 400) && len(colours(drawn)) > 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was drawn within a minute: see %s", path)
		}
	}
	g.Close()
	if _, err := g.Screendump(t.Context()); fault.KindOf(err) != fault.Guest {
		t.Errorf("a closed machine's screen: %v, want a guest fault", err)
	}
}

func TestScreendumpWithoutScreen(t *testing.T) {
	if _, err := (&guest{Life: vm.NewLife("x")}).Screendump(t.Context()); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v, want a usage fault", err)
	}
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func colours(img image.Image) map[color.Color]bool {
	all := map[color.Color]bool{}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			all[img.At(x, y)] = true
		}
	}
	return all
}

// Of two processors that were busy in turns, one was busy all the time.
func TestDemand(t *testing.T) {
	g, p := &guest{}, vm.Progress{}
	for _, now := range [][]times{
		{{1 * time.Second, 0}, {0, 0}}, {{1 * time.Second, 0}, {500 * time.Millisecond, 500 * time.Millisecond}},
		{{2 * time.Second, 0}, {500 * time.Millisecond, 600 * time.Millisecond}},
	} {
		g.addTimes(&p, now)
	}
	want := vm.Progress{CPU: 2500 * time.Millisecond, Starved: 600 * time.Millisecond, Demand: 3 * time.Second}
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
}
