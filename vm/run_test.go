package vm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"sort"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

func TestMain(m *testing.M) {
	if root, ok := os.LookupEnv("RUN_TEST_ROOT"); ok {
		holdRun(root)
	}
	os.Exit(m.Run())
}

// holdRun makes a run with all that a build leaves, and waits to be killed. $RUN_TEST_MANNERS says what it makes of
// SIGTERM: polite is as belljar is, deaf hears nothing.
func holdRun(root string) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	switch os.Getenv("RUN_TEST_MANNERS") {
	case "polite":
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	}
	runs, err := vm.OpenRuns(root)
	if err == nil {
		var run *vm.Run
		if run, err = runs.Create(ctx, "build seabios"); err == nil {
			err = fill(run)
			fmt.Println(run.ID())
			<-ctx.Done()
			for run.Info().Stopping.IsZero() {
				time.Sleep(time.Millisecond) // cleaning up takes a while
			}
			err = errors.Join(err, run.Finish(vm.Cancelled, context.Canceled))
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startHolder runs holdRun in a process of its own, and gives the run's id.
func startHolder(t *testing.T, root, manners string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "RUN_TEST_ROOT="+root, "RUN_TEST_MANNERS="+manners)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var id string
	if _, err := fmt.Fscanln(out, &id); err != nil {
		t.Fatal(err)
	}
	return cmd, id
}

// fill puts into a run what a build leaves: a socket, a disk, a temp file, an artifact, logs.
func fill(run *vm.Run) error {
	dir, err := run.Dir("build")
	if err != nil {
		return err
	}
	for _, name := range []string{"build/scratch.img", "build/console.log", "build/cmdline", "build/screen.png", "build/screen.ppm", "build/.x.json.123", "quarantine/bios.bin", "verdict.json"} {
		if err := os.WriteFile(filepath.Join(run.Path(), name), []byte(name), 0o600); err != nil {
			return err
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s.sock"))
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l.Close()
}

// tree lists the files of a folder.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return all
}

// keptFiles are what stays of a filled run.
var keptFiles = []string{"build/cmdline", "build/console.log", "build/screen.png", "lock", "run.json", "run.log", "verdict.json"}

func openRuns(t *testing.T) (*vm.Runs, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "r")
	runs, err := vm.OpenRuns(root)
	if err != nil {
		t.Fatal(err)
	}
	return runs, root
}

func create(t *testing.T, runs *vm.Runs, what string) *vm.Run {
	t.Helper()
	run, err := runs.Create(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Finish(vm.Cancelled, nil) })
	return run
}

// only is the one run in the list.
func only(t *testing.T, runs *vm.Runs) vm.Info {
	t.Helper()
	all, err := runs.List()
	if err != nil || len(all) != 1 {
		t.Fatalf("list: %v, %v, want one run", all, err)
	}
	return all[0]
}

func TestRunLife(t *testing.T) {
	runs, _ := openRuns(t)
	run := create(t, runs, "build specs/My SeaBIOS.yaml")
	if !regexp.MustCompile(`^\d{8}-\d{6}-seabios-yaml-[0-9a-f]{4}$`).MatchString(run.ID()) {
		t.Errorf("id %q", run.ID())
	}
	if st, err := os.Stat(run.Path()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v %v, want mode 0700", st.Mode(), err)
	}
	if err := run.Phase("stage", "rom"); err != nil {
		t.Fatal(err)
	}
	if err := run.Keeps("stage-rom", errors.New("it said no")); err != nil {
		t.Fatal(err)
	}
	if got := only(t, runs); got.State != vm.Running || got.Phase != "stage" || got.Name != "rom" ||
		got.Since.Before(got.Started) || got.Kept != "stage-rom" || got.Error != "it said no" || got.PID != os.Getpid() {
		t.Errorf("while it runs: %+v", got)
	}
	if err := fill(run); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(run.Log(), "a line")
	if err := run.Finish(vm.Failed, fault.New(fault.Build, "stage x", "exit code 3")); err != nil {
		t.Fatal(err)
	}
	got := only(t, runs)
	if got.State != vm.Failed || got.Error != "stage x: exit code 3" || got.Fault != "build failure" || got.Ended.Before(got.Started) || got.Kept != "" {
		t.Errorf("after its end: %+v", got)
	}
	if diff := cmp.Diff(keptFiles, tree(t, run.Path())); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := run.Finish(vm.Passed, nil); err != nil || only(t, runs).State != vm.Failed {
		t.Errorf("a second end counted: %v", err)
	}
}

func TestRunsTogether(t *testing.T) {
	runs, _ := openRuns(t)
	ids := map[string]bool{}
	done := make(chan *vm.Run)
	for range 20 {
		go func() {
			run, err := runs.Create(t.Context(), "build x")
			if err != nil {
				t.Error(err)
			}
			done <- run
		}()
	}
	for range 20 {
		if _, err := runs.List(); err != nil { // looking on must not disturb
			t.Error(err)
		}
		if run := <-done; run != nil {
			ids[run.ID()] = true
			defer run.Finish(vm.Passed, nil)
		}
	}
	if len(ids) != 20 {
		t.Errorf("%d different ids, want 20", len(ids))
	}
}

// A run whose process was killed is dead, is swept once, and keeps its logs.
func TestSweep(t *testing.T) {
	runs, root := openRuns(t)
	cmd, id := startHolder(t, root, "")
	if got := only(t, runs); got.State != vm.Running || got.PID != cmd.Process.Pid {
		t.Fatalf("while its process lives: %+v", got)
	}
	if swept, err := runs.Sweep(); err != nil || len(swept) != 0 {
		t.Errorf("swept a live run: %v, %v", swept, err)
	}
	if err := runs.Remove(id); fault.KindOf(err) != fault.Usage {
		t.Errorf("remove of a live run: %v, want a usage fault", err)
	}
	if removed, _, err := runs.Clean(vm.CleanOptions{All: true}); err != nil || len(removed) != 0 {
		t.Errorf("cleaned a live run: %v, %v", removed, err)
	}

	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if got := only(t, runs); got.State != vm.Dead {
		t.Errorf("after its process was killed: %+v, want dead", got)
	}
	swept, err := runs.Sweep()
	if err != nil || len(swept) != 1 || swept[0].ID != id {
		t.Errorf("swept %v, %v, want %s", swept, err, id)
	}
	if diff := cmp.Diff(keptFiles, tree(t, filepath.Join(root, id))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := only(t, runs); got.State != vm.Dead || got.What != "build seabios" || got.Ended.IsZero() ||
		got.Swept.Before(got.Ended) || got.Error == "" {
		t.Errorf("after the sweep: %+v", got)
	}
	if swept, err := runs.Sweep(); err != nil || len(swept) != 0 {
		t.Errorf("swept twice: %v, %v", swept, err)
	}
}

// SIGKILL may come between the folder and its lock or state.
func TestSweepHalfMade(t *testing.T) {
	runs, root := openRuns(t)
	half := filepath.Join(root, "20260101-000000-x-0000")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if swept, err := runs.Sweep(); err != nil || len(swept) != 0 {
		t.Errorf("swept a run that may just be being made: %v, %v", swept, err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(half, old, old); err != nil {
		t.Fatal(err)
	}
	if swept, err := runs.Sweep(); err != nil || len(swept) != 1 {
		t.Errorf("swept %v, %v, want the half-made run", swept, err)
	}
	if err := os.WriteFile(filepath.Join(half, "run.json"), []byte(`{"id": "2026`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := only(t, runs); got.State != vm.Dead {
		t.Errorf("with half a state: %+v", got)
	}
}

func TestCleanAndPath(t *testing.T) {
	runs, _ := openRuns(t)
	if _, err := runs.Path("x"); fault.KindOf(err) != fault.Usage {
		t.Errorf("path in an empty folder: %v, want a usage fault", err)
	}
	var ids []string
	for _, what := range []string{"build aaa", "build bbb"} {
		run := create(t, runs, what)
		ids = append(ids, run.ID())
		if err := run.Finish(vm.Passed, nil); err != nil {
			t.Fatal(err)
		}
	}
	live := create(t, runs, "build ccc")
	if path, err := runs.Path("aaa"); err != nil || filepath.Base(path) != ids[0] {
		t.Errorf("path of a part: %q, %v", path, err)
	}
	for _, bad := range []string{"zzz", "", "202"} {
		if _, err := runs.Path(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("path of %q: %v, want a usage fault", bad, err)
		}
	}
	if removed, _, err := runs.Clean(vm.CleanOptions{OlderThan: time.Hour}); err != nil || len(removed) != 0 {
		t.Errorf("clean of what is older than an hour: %v, %v", removed, err)
	}
	if removed, _, err := runs.Clean(vm.CleanOptions{OlderThan: time.Hour, All: true}); err != nil || len(removed) != 2 {
		t.Errorf("clean of all: %v, %v, want 2", removed, err)
	}
	if got := only(t, runs); got.ID != live.ID() {
		t.Errorf("left: %+v, want the live run", got)
	}
}
