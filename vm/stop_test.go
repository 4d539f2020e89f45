package vm_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name, manners string
		o             vm.StopOptions
		how           vm.StopHow
		state         vm.State
	}{
		{"one that cleans up", "polite", vm.StopOptions{Wait: time.Minute}, vm.StopAsked, vm.Cancelled},
		{"one that dies of it", "", vm.StopOptions{Wait: time.Minute}, vm.StopAsked, vm.Dead},
		{"one that does not hear", "deaf", vm.StopOptions{Wait: 50 * time.Millisecond, Force: true}, vm.StopKilled, vm.Dead},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs, root := openRuns(t)
			_, id := startHolder(t, root, c.manners)
			got, err := runs.Stop(t.Context(), "seabios", c.o)
			if err != nil || got.ID != id || got.How != c.how || got.State != c.state || got.Ended.IsZero() {
				t.Errorf("got %+v, %v; want %s, %s", got, err, c.how, c.state)
			}
			if left := tree(t, filepath.Join(root, id)); len(left) != len(keptFiles) {
				t.Errorf("left: %q", left)
			}
			how := map[vm.State]vm.StopHow{vm.Cancelled: vm.StopOver, vm.Dead: vm.StopDead}[c.state]
			if got, err := runs.Stop(t.Context(), id, c.o); err != nil || got.How != how {
				t.Errorf("once more: %+v, %v; want %s", got, err, how)
			}
		})
	}
}

func TestStopGivesUp(t *testing.T) {
	runs, root := openRuns(t)
	cmd, id := startHolder(t, root, "deaf")
	_, err := runs.Stop(t.Context(), id, vm.StopOptions{Wait: 50 * time.Millisecond})
	if fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), "has not ended within 50ms") {
		t.Errorf("got %v, want a host fault", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it was killed, without force: %v", err)
	}
}

func TestStopOfADeadRun(t *testing.T) {
	runs, root := openRuns(t)
	cmd, id := startHolder(t, root, "")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	got, err := runs.Stop(t.Context(), id, vm.StopOptions{})
	if err != nil || got.How != vm.StopDead || got.Swept.IsZero() {
		t.Errorf("got %+v, %v; want a dead run that was swept", got, err)
	}
	if swept, err := runs.Sweep(); err != nil || len(swept) != 0 {
		t.Errorf("left to sweep: %v, %v", swept, err)
	}
}

// The number of a process is given again when it has died: nobody is ended who does not hold the run's lock.
func TestStopSparesStrangers(t *testing.T) {
	runs, root := openRuns(t)
	run := create(t, runs, "build x") // this test holds its lock
	stranger := exec.Command("/bin/sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stranger.Wait() }()
	defer stranger.Process.Kill()
	for _, pid := range []int{stranger.Process.Pid, 0, -1, 1 << 30} {
		info := run.Info()
		info.PID = pid
		data, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, run.ID(), "run.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = runs.Stop(t.Context(), run.ID(), vm.StopOptions{Wait: 50 * time.Millisecond, Force: true})
		if fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), "does not hold its lock") {
			t.Errorf("process %d: got %v, want a host fault that says that it is a stranger", pid, err)
		}
	}
	select {
	case err := <-ended:
		t.Errorf("the stranger was ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
}

// A second signal kills: a run that is cleaning up is waited for, not asked again.
func TestStopWaitsForOneThatIsStopping(t *testing.T) {
	runs, root := openRuns(t)
	cmd, id := startHolder(t, root, "")
	path := filepath.Join(root, id, "run.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var info vm.Info
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatal(err)
	}
	info.Stopping = time.Now()
	if data, err = json.Marshal(info); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := runs.Stop(t.Context(), id, vm.StopOptions{Wait: 50 * time.Millisecond}); fault.KindOf(err) != fault.Host {
		t.Errorf("got %v, want a host fault: it was not asked again, and so has not ended", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

// A run says by itself that it is being stopped.
func TestRunNotesThatItIsStopping(t *testing.T) {
	runs, root := openRuns(t)
	cmd, _ := startHolder(t, root, "polite")
	if got := only(t, runs); !got.Stopping.IsZero() {
		t.Errorf("before: %+v", got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := only(t, runs); got.State != vm.Cancelled || got.Stopping.IsZero() || got.Stopping.After(got.Ended) {
		t.Errorf("after: %+v", got)
	}
}
