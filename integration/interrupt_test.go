package integration

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cleanUpTime is how long a call that was interrupted may take to end its machines and itself.
const cleanUpTime = 10 * time.Second

// ticking is a script that goes on for a while and comes to an end.
const ticking = "      for i in $(seq 24); do echo tick $i; sleep 0.5; done\n      echo done >$OUT/rom.bin"

// Ctrl-C during any phase: the exit code says so, no machine and no lock is left, and the same call goes on later.
func TestInterrupt(t *testing.T) {
	needMachines(t)
	rom(t) // an image to work with
	t.Run("fetch", interruptFetch)
	t.Run("configure", func(t *testing.T) {
		b := onClone(t, "bundles")
		p := b.start(nil, "build", "seabios", "--json", "--accel", "tcg")
		p.awaitPhase("configure")
		awaitMachine(t, p.run().path)
		interrupt(t, p)
		if images, _ := filepath.Glob(filepath.Join(b.dir, "store", "refs", "images", "*")); len(images) > 0 {
			t.Errorf("half an image is remembered: %q", images)
		}
	})
	t.Run("boot", func(t *testing.T) {
		p := startTicking(t, onShared(t), "tick-boot")
		p.awaitPhase("boot")
		awaitMachine(t, p.run().path)
		interrupt(t, p)
	})
	t.Run("stage, and the same call again", func(t *testing.T) {
		b := onShared(t)
		p := startTicking(t, b, "tick-stage")
		p.awaitText("tick 2")
		interrupt(t, p)
		o := b.succeed("build", "./tick-stage.yaml", "--json", "--no-cache")
		contains(t, "log", o.log(), "tick 24\n")
		if got := digestOf(t, filepath.Join(b.cwd, "out", "tick-stage", guest64, "rom.bin")); got != digestOfText("done\n") {
			t.Errorf("artifact: sha256 %s", got)
		}
	})
	t.Run("smoke", interruptSmoke)
}

func startTicking(t *testing.T, b *belljar, name string) *process {
	t.Helper()
	return b.start(nil, "build", b.spec(name, toySpec(name, ticking)), "--json", "--no-cache")
}

// interrupt is Ctrl-C, and what must be true afterwards.
func interrupt(t *testing.T, p *process) {
	t.Helper()
	run := p.run()
	sent := time.Now()
	p.signal(syscall.SIGINT)
	o := p.waitFor(cleanUpTime)
	t.Logf("ended %s after the signal", time.Since(sent).Round(10*time.Millisecond))
	if o.code != 130 {
		t.Errorf("exit code %d, want 130\n%s%s", o.code, o.tail(), o.stderr)
	}
	if f := o.failure(t); f.Kind != "interrupted" {
		t.Errorf("told as %+v", f)
	}
	noMachine(t, run.path, 0)
	noDisks(t, run.path)
	p.b.unlocked(run.path)
	if s, err := readRun(run.path); err != nil || s.State != "cancelled" {
		t.Errorf("the run's state is %q, %v, want cancelled", s.State, err)
	}
	if _, err := os.Stat(filepath.Join(p.b.cwd, "out")); err == nil {
		t.Error("an interrupted build handed something over")
	}
}

// interruptFetch has a mirror that sends a little and then nothing.
func interruptFetch(t *testing.T) {
	var asked atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer slow.Close()
	b := onEmpty(t)
	p := b.start(nil, "build", "seabios", "--json", "--mirror", slow.URL+"/debian")
	p.awaitPhase("fetch")
	eventually(t, patience, "four requests", func() bool { return asked.Load() >= 4 })
	interrupt(t, p)
	if objects, _ := filepath.Glob(filepath.Join(b.dir, "store", "objects", "*", "*")); len(objects) > 0 {
		t.Errorf("half a file in the store: %q", objects)
	}
}

// interruptSmoke has a ROM that says nothing, and a test that bears with it for long.
func interruptSmoke(t *testing.T) {
	b := onShared(t)
	spec := b.spec("idle", `name: idle
guests: [debian-bookworm-x86_64]
sources:
  - {name: seabios, debian: seabios, version: 1.16.2-1}
stages:
  - name: build
    packages: [acpica-tools, gcc, libc6-dev, make, python3]
    # The same stage as in quarantine.txtar: it is built once.
    script: head -c 262144 /dev/zero | tr '\0' '\364' >"$OUT/rom.bin"
    outputs: [rom.bin]
artifacts:
  - {name: rom.bin, stage: build, path: rom.bin}
smoke:
  - {name: q35, artifact: rom.bin, machine: pc-q35-6.2, expect: ['SeaBIOS'], silence: 20m, timeout: 30m}
`)
	p := b.start(nil, "build", spec, "--json")
	p.awaitPhase("smoke")
	awaitMachine(t, p.run().path)
	interrupt(t, p)
}

// 'belljar stop' is Ctrl-C from elsewhere.
func TestStop(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := startTicking(t, b, "tick-stop")
	p.awaitText("tick 1")
	run := p.run()
	var got struct {
		Runs []struct{ ID, State, How string }
	}
	b.succeed("stop", run.ID, "--json").result(t, &got)
	if len(got.Runs) != 1 || got.Runs[0].How != "stopped" || got.Runs[0].State != "cancelled" {
		t.Errorf("got %+v", got)
	}
	noMachine(t, run.path, 0)
	if o := p.waitFor(cleanUpTime); o.code != 130 {
		t.Errorf("exit code of the build: %d, want 130\n%s%s", o.code, o.tail(), o.stderr)
	}
	noDisks(t, run.path)
	b.unlocked(run.path)
	b.succeed("stop", run.ID, "--json").result(t, &got)
	if got.Runs[0].How != "over" {
		t.Errorf("once more: got %+v", got)
	}
}

// A belljar that hears nothing is killed, and swept.
func TestStopForce(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := startTicking(t, b, "tick-deaf")
	p.awaitText("tick 1")
	run := p.run()
	p.signal(syscall.SIGSTOP)
	o := b.exit(4, "stop", run.ID, "--wait", "100ms", "--json")
	contains(t, "failure", o.failure(t).all(), "has not ended within 100ms", "--force")
	var got struct {
		Runs []struct{ ID, State, How string }
	}
	b.succeed("stop", run.ID, "--wait", "100ms", "--force", "--json").result(t, &got)
	if len(got.Runs) != 1 || got.Runs[0].How != "killed" || got.Runs[0].State != "dead" {
		t.Errorf("got %+v", got)
	}
	noMachine(t, run.path, 2*time.Second)
	noDisks(t, run.path)
	b.unlocked(run.path)
}

// SIGKILL gives nobody time to clean up. The machine dies all the same, and the next call sweeps.
func TestKill(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := startTicking(t, b, "tick-kill")
	p.awaitText("tick 1")
	run := p.run()
	if len(machines(run.path)) != 1 {
		t.Fatalf("machines: %v, want one", machines(run.path))
	}
	p.signal(syscall.SIGKILL)
	p.waitFor(cleanUpTime)
	noMachine(t, run.path, 2*time.Second)
	var list struct {
		Runs []struct{ ID, State string }
	}
	b.succeed("runs", "--json").result(t, &list)
	state := "not listed"
	for _, r := range list.Runs {
		if r.ID == run.ID {
			state = r.State
		}
	}
	if state != "dead" {
		t.Errorf("the run's state is %q, want dead", state)
	}
	noDisks(t, run.path)
	b.unlocked(run.path)
}

// A second Ctrl-C does not wait for anything.
func TestInterruptTwice(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := startTicking(t, b, "tick-twice")
	p.awaitText("tick 1")
	run := p.run()
	p.signal(syscall.SIGINT)
	p.awaitText("once more kills")
	time.Sleep(350 * time.Millisecond)       // two within 300 ms count as one, for timeout(1) sends its signal twice
	_ = p.cmd.Process.Signal(syscall.SIGINT) // it may be over already
	if o := p.waitFor(cleanUpTime); o.code != 130 {
		t.Errorf("exit code %d, want 130", o.code)
	}
	noMachine(t, run.path, 2*time.Second)
}
