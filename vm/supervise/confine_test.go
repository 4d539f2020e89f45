package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm/confine"
)

// system is what a shell is made of.
func system() []confine.Path {
	return []confine.Path{
		{Path: "/usr", Access: confine.Execute}, {Path: "/bin", Access: confine.Execute},
		{Path: "/lib", Access: confine.Execute}, {Path: "/lib64", Access: confine.Execute},
		{Path: "/etc/ld.so.cache", Access: confine.Read}, {Path: "/proc", Access: confine.Read},
		{Path: "/dev/null", Access: confine.Write},
	}
}

// confined runs a script of bash's (sh knows no descriptor above 9) behind a plan's walls and gives its output.
func confined(t *testing.T, p confine.Plan, script string) (string, confine.Report) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	proc, err := Start(Command{
		Path: "/bin/bash", Args: []string{"-c", script}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}, Stdout: out, Stderr: out,
		Confine: &p,
	})
	if err != nil {
		t.Fatal(err)
	}
	if exit := proc.Wait(); exit != (Exit{}) {
		got, _ := os.ReadFile(out.Name())
		t.Fatalf("exit %v: %s", exit, got)
	}
	got, _ := os.ReadFile(out.Name())
	return string(got), proc.Confined
}

// The confined child is as much of a child as any other: one group, the same streams, none of our descriptors.
func TestConfinedIsAChildLikeAnother(t *testing.T) {
	got, report := confined(t, confine.Plan{Paths: system()},
		`echo "<$`+variable+`$`+confiner+`>"; grep -E 'CapEff|NoNewPrivs' /proc/$$/status; for n in 3 4 5 6 7 8; do [ -e /proc/$$/fd/$n ] && echo holds $n; done; true`)
	if want := "<>\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if len(report.Failed) > 0 {
		t.Errorf("refused: %v", report.Failed)
	}
	if got, want := report.Landlock, confine.LandlockABI(); got != want {
		t.Errorf("Landlock ABI %d, want the kernel's %d", got, want)
	}
}

// What confinement adds to the start of a program: the difference between the two. On a busy host processor time says
// more than the clock.
func BenchmarkStart(b *testing.B) {
	walls := &confine.Plan{Network: true, Paths: system()}
	if os.Getuid() == 0 {
		walls.UID = someUID
	}
	for _, c := range []struct {
		name string
		plan *confine.Plan
	}{{"free", nil}, {"confined", walls}} {
		b.Run(c.name, func(b *testing.B) {
			before, n := spent(b), 0
			for b.Loop() {
				n++
				p, err := Start(Command{Path: "/bin/true", Dir: "/", Confine: c.plan})
				if err != nil {
					b.Fatal(err)
				}
				p.Wait()
			}
			b.ReportMetric((spent(b)-before).Seconds()*1000/float64(n), "cpu-ms/op")
		})
	}
}

// spent is the processor time of all children so far.
func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestConfinedNotThere(t *testing.T) {
	_, err := Start(Command{Path: "/nonexistent/program", Confine: &confine.Plan{Paths: system()}})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/program: no such file") {
		t.Errorf("start: %v, want 'no such file'", err)
	}
	_, err = Start(Command{Path: "/bin/true", Confine: &confine.Plan{Files: []confine.File{{Path: "/nonexistent/file"}}}})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/file: no such file") {
		t.Errorf("start with a file that is not there: %v, want 'no such file'", err)
	}
}

// What is handed over open can be read, whoever may open it; and what may not be opened by name cannot.
func TestConfinedFiles(t *testing.T) {
	dir := t.TempDir()
	secret, open := filepath.Join(dir, "secret"), filepath.Join(dir, "open")
	for name, mode := range map[string]os.FileMode{secret: 0o600, open: 0o644} {
		if err := os.WriteFile(name, []byte(filepath.Base(name)+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	p := confine.Plan{
		Files: []confine.File{{Path: secret}, {Path: secret, Copy: true}, {Path: open, Write: true}},
		Paths: append(system(), confine.Path{Path: open, Access: confine.Read}),
	}
	script := `cat <&64 ; cat /proc/self/fd/65; cat /proc/self/fd/66; echo more >&66; cat ` + open + `; cat ` + secret + ` 2>&1; true`
	want := "secret\nsecret\nopen\nmore\n" // a descriptor has its own place in the file
	if confine.LandlockABI() > 0 {
		want += "cat: " + secret + ": Permission denied\n"
	} else {
		want += "secret\n"
	}
	if got, _ := confined(t, p, script); got != want {
		t.Errorf("output\n%s\nwant\n%s", got, want)
	}
}

func TestConfinedParentAndSupervisorKilled(t *testing.T) {
	for _, victim := range []string{"parent", "supervisor"} {
		t.Run(victim, func(t *testing.T) {
			t.Setenv(confineVariable, "1")
			parent, child, supervisor := startParent(t)
			kill := map[string]int{"parent": parent.Process.Pid, "supervisor": supervisor}[victim]
			if err := syscall.Kill(kill, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if !gone(child) {
				t.Errorf("process %d outlived its %s", child, victim)
			}
		})
	}
}
