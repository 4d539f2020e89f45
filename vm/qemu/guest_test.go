package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
	"github.com/belljar/belljar/vm/vmtest"
)

// until polls for what another process does.
func until(t *testing.T, what string, limit time.Duration, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

func TestResetsAreCounted(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine {
		m := romMachine(t, dir, "pc-q35-6.2", "again", vmtest.Reset)
		m.OnReset = ""
		return m
	})
	until(t, "three resets", 30*time.Second, func() bool { return g.Resets() >= 3 })
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	out, _ := io.ReadAll(g.Console())
	if n := strings.Count(string(out), "again\n"); n < 3 {
		t.Errorf("the line came %d times, want at least 3", n)
	}
}

func TestLogs(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine { return romMachine(t, dir, "pc-q35-6.2", "both consoles", vmtest.PowerOff) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"console": "both consoles\n", "debugcon": "both consoles\n", "stderr": ""} {
		r, err := g.Log(name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, _ := io.ReadAll(r); string(got) != want {
			t.Errorf("log %s: %q, want %q", name, got, want)
		}
	}
	r, err := g.Log("events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var names []string
	for dec := json.NewDecoder(r); ; {
		var e vm.Event
		if dec.Decode(&e) != nil {
			break
		}
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "RESUME SHUTDOWN" {
		t.Errorf("events %q, want RESUME SHUTDOWN", got)
	}
	if _, err := g.Log("nosuch"); fault.KindOf(err) != fault.Usage {
		t.Errorf("log nosuch: %v, want a usage fault", err)
	}
}

func TestEnded(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine { return romMachine(t, dir, "pc-q35-6.2", "x", vmtest.PowerOff) })
	_ = g.Wait()
	if got := g.Ended(); got != vm.EndedItself {
		t.Errorf("powered off by itself: ended = %q", got)
	}
	g = boot(t, func(dir string) vm.Machine { return romMachine(t, dir, "pc-q35-6.2", "x", vmtest.Hang) })
	g.Close()
	if got := g.Ended(); got != vm.EndedQuit {
		t.Errorf("hung ROM: ended = %q, want %q", got, vm.EndedQuit)
	}
	// A stopped QEMU hears nothing: only killing helps.
	needVM(t)
	dir := t.TempDir()
	h, err := (&Backend{Grace: 200 * time.Millisecond}).Start(t.Context(), romMachine(t, dir, "pc-q35-6.2", "x", vmtest.Hang), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := syscall.Kill(h.(*guest).PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if got := h.(*guest).Ended(); got != vm.EndedKilled {
		t.Errorf("stopped QEMU: ended = %q, want %q", got, vm.EndedKilled)
	}
}

// The command line for a person must really start the same machine.
func TestCommandLineByHand(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine {
		m := romMachine(t, dir, "pc-q35-6.2", "seen by hand", vmtest.PowerOff)
		m.Ports = []string{"belljar.ssh"}
		return m
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", g.CommandLine()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "seen by hand") {
		t.Errorf("%s: %v\n%s", g.CommandLine(), err, out)
	}
}

func TestQEMURefuses(t *testing.T) {
	needVM(t)
	dir := t.TempDir()
	m := romMachine(t, dir, "pc-q35-6.2", "x", vmtest.Hang)
	if err := os.WriteFile(m.Boot.ROM, []byte("not a multiple of 64 KiB"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := (&Backend{}).Start(t.Context(), m, dir)
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != fault.Host || !strings.Contains(e.Error(), "could not load PC BIOS") {
		t.Fatalf("start: %v, want a host fault that quotes QEMU", err)
	}
	var titles []string
	for _, ev := range e.Evidence {
		titles = append(titles, ev.Title)
	}
	if got := strings.Join(titles, ", "); got != "QEMU's stderr, run it by hand" {
		t.Errorf("evidence: %s", got)
	}
	sockets(t, dir)
}

// sockets fails the test for each socket in dir.
func sockets(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, "*.sock")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A program that is no QEMU never connects.
func TestNoQEMU(t *testing.T) {
	dir := t.TempDir()
	m := romMachine(t, dir, "pc-q35-6.2", "x", vmtest.Hang)
	_, err := (&Backend{Binary: "/bin/true"}).Start(t.Context(), m, dir)
	if fault.KindOf(err) != fault.Host {
		t.Errorf("start of a program that ends at once: %v, want a host fault", err)
	}
	sockets(t, dir)

	sleeper := filepath.Join(dir, "sleeper")
	if err := os.WriteFile(sleeper, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := (&Backend{Binary: sleeper}).Start(ctx, m, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start of a program that never connects: %v, want the context's end", err)
	}
	sockets(t, dir)

	_, err = (&Backend{Binary: "no-such-qemu"}).Start(t.Context(), m, dir)
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Host || !strings.Contains(e.Remedy, "apt-get install") {
		t.Errorf("start without QEMU: %v, want a host fault with a remedy", err)
	}
}

// helperVariable makes the test program start a QEMU and wait, for TestParentKilled.
const helperVariable = "QEMU_TEST_DIR"

// holdQEMU starts a machine that hangs, says its process ids and waits to be killed.
func holdQEMU(dir string) {
	m, err := writeMachine(dir, "pc-q35-6.2", "x", vmtest.Hang)
	var g vm.Guest
	if err == nil {
		g, err = (&Backend{}).Start(context.Background(), m, dir)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("pid=%d supervisor=%d\n", g.(*guest).PID(), g.(*guest).process.Supervisor)
	select {}
}

func TestParentKilled(t *testing.T) {
	needVM(t)
	for _, victim := range []string{"parent", "supervisor"} {
		t.Run(victim, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), helperVariable+"="+t.TempDir())
			var out syncBuffer
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			said := regexp.MustCompile(`pid=(\d+) supervisor=(\d+)\n`)
			until(t, "the helper's QEMU", 30*time.Second, func() bool { return said.MatchString(out.String()) })
			var qemu, supervisor int
			_, _ = fmt.Sscanf(said.FindString(out.String()), "pid=%d supervisor=%d", &qemu, &supervisor)
			if name, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", qemu)); !strings.Contains(name, "qemu-system") {
				t.Fatalf("process %d is %q, want QEMU", qemu, name)
			}
			kill := map[string]int{"parent": cmd.Process.Pid, "supervisor": supervisor}[victim]
			if err := syscall.Kill(kill, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			until(t, "QEMU's end", time.Second, func() bool {
				name, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", qemu)) // a zombie has none
				return name == ""
			})
		})
	}
}

// heard is a guest of which that was heard, and no more.
func heard(t *testing.T, events ...vm.Event) *guest {
	g := &guest{Life: vm.NewLife("x"), Logs: vm.Logs{Dir: t.TempDir()}, command: "by hand"}
	for _, e := range events {
		g.Hear(e, nil)
	}
	return g
}

// decide is what Wait answers when QEMU has ended so.
func (g *guest) decide(exit supervise.Exit) error {
	g.Decide(func() error { return g.died(exit) }, g.evidence)
	g.Bury()
	return g.Wait()
}

// What the events say is vm.Judge's to tell; what is left is QEMU's own end.
func TestDecide(t *testing.T) {
	shutdown := []vm.Event{{Name: "SHUTDOWN", Data: map[string]any{"reason": "host-signal", "guest": false}}}
	for _, c := range []struct {
		name   string
		events []vm.Event
		exit   supervise.Exit
		word   string
	}{
		{"somebody's SIGTERM", shutdown, supervise.Exit{}, "exit code 0"},
		{"out of memory", nil, supervise.Exit{Code: -1, Signal: syscall.SIGKILL}, "signal 9"},
		{"lost", nil, supervise.Exit{Code: -1, Signal: syscall.SIGKILL, Lost: true}, "supervisor"},
		{"exit code", nil, supervise.Exit{Code: 1}, "exit code 1"},
		{"exit code 0 without an event", nil, supervise.Exit{}, "exit code 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := heard(t, c.events...)
			if err := g.decide(c.exit); fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), c.word) {
				t.Errorf("%v (%s), want a host fault with %q", err, fault.KindOf(err), c.word)
			}
		})
	}
	g := heard(t, vm.Event{Name: "GUEST_PANICKED"})
	if e, ok := errors.AsType[*fault.Error](g.decide(supervise.Exit{})); !ok || e.Kind != fault.Guest || len(e.Evidence) == 0 {
		t.Errorf("a panic: %+v, want a guest fault with evidence", e)
	}
}
