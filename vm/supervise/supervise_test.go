package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm/confine"
)

// childVariable makes the test program a parent of its own, for the tests that kill one.
const childVariable = "SUPERVISE_TEST_PARENT"

// confineVariable makes it confine its child; as root, to another user, whom the kernel's parent-death signal must
// follow too.
const (
	confineVariable = "SUPERVISE_TEST_CONFINE"
	someUID         = 65500
)

func TestMain(m *testing.M) {
	Main()
	if script, ok := os.LookupEnv(childVariable); ok {
		parent(script)
	}
	os.Exit(m.Run())
}

// parent starts a shell script, says the process ids and waits to be killed.
func parent(script string) {
	c := Command{Path: "/bin/sh", Args: []string{"-c", script}}
	if _, ok := os.LookupEnv(confineVariable); ok {
		c.Confine = &confine.Plan{Paths: system()}
		if os.Getuid() == 0 {
			c.Confine.UID = someUID
		}
	}
	p, err := Start(c)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode([]int{p.PID, p.Supervisor})
	p.Wait()
	os.Exit(0)
}

// gone waits up to a second for a process to be gone; a zombie counts.
func gone(pid int) bool {
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return true
		}
		if i := strings.LastIndexByte(string(stat), ')'); i > 0 && strings.HasPrefix(string(stat[i:]), ") Z") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestExit(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         Exit
	}{
		{"success", "exit 0", Exit{}},
		{"exit code", "exit 3", Exit{Code: 3}},
		{"signal", "kill -TERM $$", Exit{Code: -1, Signal: syscall.SIGTERM}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", c.script}})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Wait(); got != c.want {
				t.Errorf("exit %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestStreamsFolderAndEnvironment(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := Start(Command{
		Path: "/bin/sh", Args: []string{"-c", `pwd; echo "$A$` + variable + `"; echo err >&2; for n in 3 4 5 6 7 8; do [ -e /proc/$$/fd/$n ] && echo holds $n; done; true`},
		Dir: dir, Env: []string{"A=b", "PATH=/bin:/usr/bin"}, Stdout: out, Stderr: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	got, _ := os.ReadFile(out.Name())
	// The program must not hold the supervisor's pipes.
	if want := dir + "\nb\nerr\n"; string(got) != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestNotThere(t *testing.T) {
	if _, err := Start(Command{Path: "/nonexistent/program"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("start: %v, want 'no such file'", err)
	}
}

func TestKillTakesTheWholeGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & echo $! > " + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	grandchild := 0
	for range 500 {
		if b, err := os.ReadFile(pidFile); err == nil {
			_, _ = fmt.Sscan(string(b), &grandchild)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if grandchild == 0 {
		t.Fatal("the script did not start its child")
	}
	p.Kill()
	p.Kill() // may be called again
	if got := p.Wait(); got.Signal != syscall.SIGKILL || got.Lost {
		t.Errorf("exit %+v, want SIGKILL", got)
	}
	for _, pid := range []int{p.PID, p.Supervisor, grandchild} {
		if !gone(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
}

// startParent runs this test program as a parent and returns it with its child's and its supervisor's process ids.
func startParent(t *testing.T) (cmd *exec.Cmd, child, supervisor int) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"=exec sleep 1000")
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	if err := json.Unmarshal([]byte(line), &pids); err != nil {
		t.Fatalf("parent said %q", line)
	}
	return cmd, pids[0], pids[1]
}

func TestParentKilled(t *testing.T) {
	parent, child, supervisor := startParent(t)
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{child, supervisor} {
		if !gone(pid) {
			t.Errorf("process %d outlived its parent", pid)
		}
	}
}

func TestSupervisorKilled(t *testing.T) {
	p, err := Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := p.Wait(); !got.Lost {
		t.Errorf("exit %+v, want Lost", got)
	}
	if !gone(p.PID) {
		t.Errorf("process %d outlived its supervisor", p.PID)
	}
}

func TestTerminalSignalsDoNotReachIt(t *testing.T) {
	p, err := Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	mine, err := syscall.Getpgid(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{p.PID, p.Supervisor} {
		if pgid, err := syscall.Getpgid(pid); err != nil || pgid == mine {
			t.Errorf("process %d is in the group %d of the terminal's job (%v)", pid, pgid, err)
		}
	}
}

func TestUnhooked(t *testing.T) {
	hooked.Store(false)
	defer hooked.Store(true)
	if _, err := Start(Command{Path: "/bin/true"}); err == nil || !strings.Contains(err.Error(), "supervise.Main") {
		t.Errorf("start: %v, want an error that names supervise.Main", err)
	}
}
