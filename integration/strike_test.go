package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endTime is how long it may take to end a machine that does not cooperate, and to tell what became of it: see
// docs/faults.md.
const endTime = 20 * time.Second

// struck is a build whose machines something befalls while its stage goes on.
type struck struct {
	*process
	path string // of its run
}

func strikeAt(t *testing.T, b *belljar, name, script string) *struck {
	t.Helper()
	p := b.start(nil, "build", b.spec(name, toySpec(name, script)), "--json", "--no-cache")
	return &struck{p, p.run().path}
}

// ticks waits until the stage ticks in its n-th guest.
func (s *struck) ticks(attempt int) {
	s.t.Helper()
	seen := 0
	s.await(fmt.Sprintf("tick 1 of attempt %d", attempt), func(e event) bool {
		if strings.HasSuffix(e.Text, "tick 1") {
			seen++
		}
		return seen == attempt
	})
}

// strike sends a signal to the machine of an attempt, and says when.
func (s *struck) strike(attempt int, sig syscall.Signal) time.Time {
	s.t.Helper()
	s.ticks(attempt)
	folder := filepath.Join(s.path, "stage-build")
	if attempt > 1 {
		folder += fmt.Sprintf("-%d", attempt)
	}
	pids := machines(folder)
	if len(pids) != 1 {
		s.t.Fatalf("machines in %s: %v, want one", folder, pids)
	}
	must(s.t, syscall.Kill(pids[0], sig))
	return time.Now()
}

// retried waits for the word that the stage is tried once more, which must say why, and come in time.
func (s *struck) retried(since time.Time, within time.Duration, why string) {
	s.t.Helper()
	e := s.await("second try", func(e event) bool { return e.Kind == "warning" && strings.Contains(e.Text, "trying once more") })
	if !strings.Contains(e.Text, why) {
		s.t.Errorf("tried once more because of %q, want %q", e.Text, why)
	}
	s.inTime("the second try", e.Time.Sub(since), within)
}

func (s *struck) inTime(what string, took, within time.Duration) {
	s.t.Helper()
	s.t.Logf("%s %s after the fault", what, took.Round(time.Millisecond))
	if took > within {
		s.t.Errorf("%s came %s after the fault, want it within %s", what, took, within)
	}
}

// fails waits for the end, which must have come in time, and holds it to what docs/faults.md says: the kind, its exit
// code, why, and the evidence.
func (s *struck) fails(since time.Time, within time.Duration, kind string, code int, why string, evidence ...string) {
	s.t.Helper()
	o := s.waitFor(patience)
	s.inTime("the end", time.Since(since), within)
	if o.code != code {
		s.t.Errorf("exit code %d, want %d\n%s%s", o.code, code, o.tail(), o.stderr)
	}
	f := o.failure(s.t)
	if f.Kind != kind || !strings.Contains(f.Message, why) {
		s.t.Errorf("told as a fault of kind %s: %s; want %s: %s", f.Kind, f.Message, kind, why)
	}
	var titles []string
	for _, e := range f.Evidence {
		titles = append(titles, e.Title)
	}
	for _, want := range append(evidence, "run it by hand") {
		if !strings.Contains("\n"+strings.Join(titles, "\n")+"\n", "\n"+want+"\n") {
			s.t.Errorf("no evidence %q; there is %q", want, titles)
		}
	}
	noMachine(s.t, s.path, 0)
	noDisks(s.t, s.path)
	s.b.unlocked(s.path)
}

// QEMU is killed under a stage: the stage is tried once more, and the build goes well.
func TestQEMUKilledOnce(t *testing.T) {
	needMachines(t)
	t.Parallel() // much of it is waiting
	someImage(t)
	s := strikeAt(t, onShared(t), "killed-once", "      for i in 1 2 3 4; do echo tick $i; sleep 1; done\n      echo done >$OUT/rom.bin")
	s.retried(s.strike(1, syscall.SIGKILL), endTime, "signal 9")
	if o := s.waitFor(patience); o.code != 0 {
		t.Errorf("exit code %d\n%s%s", o.code, o.tail(), o.stderr)
	}
}

// QEMU is killed twice.
func TestQEMUKilled(t *testing.T) {
	needMachines(t)
	t.Parallel() // much of it is waiting
	someImage(t)
	s := strikeAt(t, onShared(t), "killed-twice", ticking)
	s.retried(s.strike(1, syscall.SIGKILL), endTime, "signal 9")
	s.fails(s.strike(2, syscall.SIGKILL), endTime, "host", 4, "signal 9", "console, last lines", "its progress")
}

// QEMU is stopped, and goes on running for all that its parent knows: the watchdog tells it from a guest that hangs.
func TestQEMUStopped(t *testing.T) {
	needMachines(t)
	t.Parallel() // much of it is waiting
	someImage(t)
	const found = 10*time.Second + 2*3*time.Second // and two samples, where the host is busy
	s := strikeAt(t, onShared(t), "stopped", strings.Replace(ticking, "seq 24", "seq 1000", 1))
	s.retried(s.strike(1, syscall.SIGSTOP), found+endTime, "SIGSTOP")
	s.fails(s.strike(2, syscall.SIGSTOP), found+endTime, "host", 4, "SIGSTOP", "console, last lines", "its progress")
}

// The guest's kernel panics. No step of a build may make it do that (each runs as a user, and sysrq is root's), so this
// belljar's stages run as root.
func TestGuestPanics(t *testing.T) {
	needMachines(t)
	t.Parallel() // much of it is waiting
	someImage(t)
	b := onShared(t)
	b.program = rootProgram(t)
	s := strikeAt(t, b, "panics", `      echo tick 1
      sleep 1
      echo c >/proc/sysrq-trigger
      sleep 1000`)
	const why = "Kernel panic - not syncing: sysrq triggered crash"
	s.ticks(1)
	s.retried(time.Now(), time.Second+endTime, why)
	s.ticks(2)
	s.fails(time.Now(), time.Second+endTime, "guest", 5, why, "console, last lines", "its progress", "last lines of the log")
	contains(t, "evidence", s.out.failure(t).all(), "tick 1")
	console, err := os.ReadFile(filepath.Join(s.path, "stage-build-2", "console.log"))
	must(t, err)
	contains(t, "console", string(console), "sysrq_handle_crash") // evidence has the end of it
}

// rootProgram is a belljar whose stages run as root in the guest.
func rootProgram(t *testing.T) string {
	t.Helper()
	place := filepath.Join(sources, "pipeline", "stage.go")
	text, err := os.ReadFile(place)
	must(t, err)
	const asUser = "Record: recordPrograms,\n" // what root runs is not recorded
	if strings.Count(string(text), asUser) != 1 {
		t.Fatalf("%s has changed: it has no %q", place, asUser)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "stage.go")
	must(t, os.WriteFile(changed, []byte(strings.Replace(string(text), asUser, "Root: true,\n", 1)), 0o644))
	must(t, buildProgram(dir, map[string]string{place: changed}))
	return filepath.Join(dir, "belljar")
}
