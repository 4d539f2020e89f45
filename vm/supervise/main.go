package supervise

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main makes this process a supervisor if it was started as one, and then never returns. Each program that starts
// supervised children calls it first thing in main, and each such test in TestMain.
func Main() {
	order, ok := os.LookupEnv(variable)
	if !ok {
		hooked.Store(true)
		return
	}
	os.Exit(serve(order))
}

// serve runs the ordered program until it ends or the death pipe closes.
func serve(order string) int {
	death := os.NewFile(deathFD, "death")
	status := os.NewFile(statusFD, "status")
	syscall.CloseOnExec(deathFD)
	syscall.CloseOnExec(statusFD)
	// Nor shall the program hold what this process inherited by somebody's carelessness: a lock, another pipe.
	_ = unix.CloseRange(deathFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // needs Linux 5.11; a nicety
	// Whoever wants the program to end closes the pipe. A stray signal to the supervisor alone must not end it first.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)

	out := json.NewEncoder(status)
	var c Command
	if err := json.Unmarshal([]byte(order), &c); err != nil {
		_ = out.Encode(report{Error: fmt.Sprintf("decode order: %v", err)})
		return exitFailed
	}

	// The parent-death signal is sent when the thread that forked ends, not the process: this one must never end.
	runtime.LockOSThread()
	cmd := &exec.Cmd{
		Path:        c.Path,
		Args:        append([]string{c.Path}, c.Args...),
		Dir:         c.Dir,
		Env:         withoutOrder(os.Environ()),
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if err := cmd.Start(); err != nil {
		_ = out.Encode(report{Error: err.Error()})
		return exitFailed
	}
	_ = out.Encode(report{PID: cmd.Process.Pid})

	go func() {
		_, _ = io.Copy(io.Discard, death) // returns when the last holder of the other end is gone
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}()
	_ = cmd.Wait()
	// The program may have left children in its group.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = out.Encode(report{Exit: exitOf(cmd.ProcessState)})
	return 0
}

// exitOf reads a wait status.
func exitOf(s *os.ProcessState) *Exit {
	e := &Exit{Code: s.ExitCode()}
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// withoutOrder leaves the supervisor's own variable out, else a child that embeds this package would supervise too.
func withoutOrder(env []string) []string {
	var keep []string
	for _, v := range env {
		if !strings.HasPrefix(v, variable+"=") {
			keep = append(keep, v)
		}
	}
	return keep
}
