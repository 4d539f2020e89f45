package pipeline

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// makeRun is a run with a log of its own and one of a machine.
func (h *house) makeRun(t *testing.T, what string) *vm.Run {
	t.Helper()
	run, err := h.runs.Create(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Finish(vm.Failed, nil) })
	if _, err := io.WriteString(run.Log(), "it began\n"); err != nil {
		t.Fatal(err)
	}
	dir, err := run.Dir("stage-rom")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "console.log"), []byte("Linux\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return run
}

func finish(t *testing.T, run *vm.Run, s vm.State, why error) {
	t.Helper()
	if err := run.Finish(s, why); err != nil {
		t.Fatal(err)
	}
}

func TestRuns(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	failed, live := h.makeRun(t, "build toy"), h.makeRun(t, "shell toy")
	finish(t, failed, vm.Failed, fault.New(fault.Build, "stage rom", "script exited 1"))
	all, err := Runs(h.Config)
	if err != nil || len(all) != 2 {
		t.Fatalf("got %v, %v", all, err)
	}
	for _, r := range all {
		switch r.ID {
		case failed.ID():
			if r.State != "failed" || r.What != "build toy" || !strings.Contains(r.Error, "exited 1") ||
				r.Ended.IsZero() {
				t.Errorf("got %+v", r)
			}
		case live.ID():
			if r.State != "running" || !r.Ended.IsZero() {
				t.Errorf("got %+v", r)
			}
		}
	}
}

// Stopping live runs is tested in package vm and with the whole program: here it would end the test.
func TestStopOfRunsThatAreOver(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	one, two := h.makeRun(t, "build one"), h.makeRun(t, "build two")
	finish(t, one, vm.Passed, nil)
	finish(t, two, vm.Cancelled, context.Canceled)
	got, err := Stop(t.Context(), h.Config, StopOptions{Runs: []string{two.ID(), "one", "two"}})
	if err != nil || len(got) != 2 || got[0].ID != two.ID() || got[1].ID != one.ID() || got[0].How != "over" ||
		got[1].State != "passed" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := Stop(t.Context(), h.Config, StopOptions{All: true}); err != nil || len(got) != 0 {
		t.Errorf("all: got %+v, %v; want none", got, err)
	}
	_, err = Stop(t.Context(), h.Config, StopOptions{Runs: []string{"one", "nosuch"}})
	wantFault(t, err, fault.Usage, "nosuch")
}

func TestLogs(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	run := h.makeRun(t, "build toy")
	for _, c := range []struct{ name, id, part, want string }{
		{"all", run.ID(), "", "==> run <==\nit began\n==> stage-rom/console <==\nLinux\n"},
		{"one", "toy", "stage-rom/console", "Linux\n"},
		{"of the last run", "last", "run", "it began\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Logs(t.Context(), h.Config, c.id, c.part, false, &b); err != nil || b.String() != c.want {
				t.Errorf("got %q, %v; want %q", b.String(), err, c.want)
			}
		})
	}
	picture := filepath.Join(run.Path(), "stage-rom", "screen.png")
	if err := os.WriteFile(picture, []byte("a PNG"), 0o644); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	want := "\n==> stage-rom/screen <==\na picture: " + picture + "\n"
	if err := Logs(t.Context(), h.Config, "last", "", false, &all); err != nil || !strings.HasSuffix(all.String(), want) {
		t.Errorf("got %q, %v; want it to end with %q", all.String(), err, want)
	}
	err := Logs(t.Context(), h.Config, "last", "stage-tool/console", false, io.Discard)
	wantFault(t, err, fault.Usage, "stage-tool/console", "stage-rom/console")
	wantFault(t, Logs(t.Context(), h.Config, "nosuch", "", false, io.Discard), fault.Usage, "nosuch")
	empty, _ := newHouse(t, fake.Script{})
	wantFault(t, Logs(t.Context(), empty.Config, "last", "", false, io.Discard), fault.Usage, "none yet")
}

func TestLogsFollowUntilTheRunEnds(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	run := h.makeRun(t, "build toy")
	time.AfterFunc(150*time.Millisecond, func() {
		_, _ = io.WriteString(run.Log(), "it ended\n")
		_ = run.Finish(vm.Passed, nil)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var b bytes.Buffer
	if err := Logs(ctx, h.Config, run.ID(), "", true, &b); err != nil || b.String() != "it began\nit ended\n" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

func TestClean(t *testing.T) {
	type options = CleanOptions
	for _, c := range []struct {
		name          string
		o             options
		runs, objects int  // cleaned
		left          int  // of the two run folders
		stays         bool // what the store holds
	}{
		{"young runs stay", options{OlderThan: time.Hour}, 0, 0, 2, true},
		{"old runs go", options{}, 1, 0, 1, true},
		{"all but the live one", options{All: true, OlderThan: time.Hour}, 1, 0, 1, true},
		{"as if", options{All: true, Store: true, DryRun: true}, 1, 1, 2, true},
		{"the store too", options{All: true, Store: true}, 1, 1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := newHouse(t, fake.Script{})
			d := h.put(t, "an object")
			h.bind(t, "builds", "id", knownBuild{Record: d})
			finish(t, h.makeRun(t, "build toy"), vm.Passed, nil)
			live := h.makeRun(t, "build toy")
			res, err := Clean(t.Context(), h.Config, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Runs != c.runs || res.Objects != c.objects || (res.Bytes > 0) != (c.runs > 0) {
				t.Errorf("got %+v", res)
			}
			if all, _ := Runs(h.Config); len(all) != c.left || all[len(all)-1].ID != live.ID() && c.left == 1 {
				t.Errorf("left are %+v", all)
			}
			if h.store.Has(d) != c.stays {
				t.Errorf("the object is there: %t", !c.stays)
			}
			if ok, _ := h.store.Lookup("builds", "id", &knownBuild{}); ok != c.stays {
				t.Errorf("the build is known: %t", ok)
			}
		})
	}
}

func TestSocketBelowALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30)) // unix(7): 108 bytes
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "s"), nil, 0o600); err != nil { // left by another
		t.Fatal(err)
	}
	l, err := listenIn(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := dialIn(t.Context(), dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := dialIn(t.Context(), t.TempDir(), "s"); err == nil {
		t.Error("nobody listens there")
	}
}
