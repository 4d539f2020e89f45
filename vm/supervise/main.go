package supervise

import (
	"encoding/json"
	"errors"
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

	"github.com/belljar/belljar/vm/confine"
)

// Main makes this process a supervisor, or a supervised child's first half, if it was started as one, and then never
// returns. Each program that starts supervised children calls it first thing in main, and each such test in TestMain.
func Main() {
	if order, ok := os.LookupEnv(confiner); ok {
		os.Exit(becomeChild(order))
	}
	if order, ok := os.LookupEnv(variable); ok {
		os.Exit(serve(order))
	}
	hooked.Store(true)
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
	cmd, confined, err := start(c)
	if err != nil {
		_ = out.Encode(report{Error: err.Error()})
		return exitFailed
	}
	_ = out.Encode(report{PID: cmd.Process.Pid, Confined: confined})

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

// start starts the program: at once, or by way of a process that confines itself first.
func start(c Command) (*exec.Cmd, *confine.Report, error) {
	cmd := c.child(c.Path)
	if c.Confine == nil {
		return cmd, nil, cmd.Start()
	}
	cmd, refused, pipe, err := startConfiner(c)
	if err != nil {
		return nil, nil, err
	}
	defer pipe.Close()
	confined, err := readConfined(pipe)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, nil, err
	}
	confined.Network = c.Confine.Network && refused == nil
	if refused != nil {
		confined.Failed["network"] = refused.Error()
	}
	return cmd, confined, nil
}

// child is a process with the program's name, folder, streams and environment.
func (c Command) child(path string) *exec.Cmd {
	return &exec.Cmd{
		Path:        path,
		Args:        append([]string{c.Path}, c.Args...),
		Dir:         c.Dir,
		Env:         without(os.Environ(), variable),
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
}

// startConfiner starts the process that confines itself and becomes the program; it reports on the pipe. Refused is why it
// could not be kept from the network.
func startConfiner(c Command) (cmd *exec.Cmd, refused error, pipe *os.File, err error) {
	order, err := json.Marshal(confineOrder{
		Plan: *c.Confine, Program: confine.Program{Path: c.Path, Args: c.Args, Parent: os.Getpid()},
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("encode order: %w", err)
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("report pipe: %w", err)
	}
	defer w.Close()
	start := func(isolated bool) error {
		cmd = c.child("/proc/self/exe")
		cmd.Args = []string{"belljar-confiner", c.Path}
		cmd.Env = append(cmd.Env, confiner+"="+string(order))
		cmd.ExtraFiles = []*os.File{w}
		if isolated {
			confine.Isolate(cmd.SysProcAttr)
		}
		return cmd.Start()
	}
	if c.Confine.Network {
		if refused = start(true); refused == nil {
			return cmd, nil, pipe, nil
		}
	}
	if err := start(false); err != nil {
		pipe.Close()
		return nil, nil, nil, err
	}
	return cmd, refused, pipe, nil
}

// confineOrder is what the confiner is told.
type confineOrder struct {
	Plan    confine.Plan    `json:"plan"`
	Program confine.Program `json:"program"`
}

// becomeChild confines this process and turns it into the child. It returns only if that went wrong.
func becomeChild(order string) int {
	pipe := os.NewFile(reportFD, "report")
	syscall.CloseOnExec(reportFD)
	out := json.NewEncoder(pipe)
	var o confineOrder
	err := json.Unmarshal([]byte(order), &o)
	if err == nil {
		err = confine.Enter(o.Plan, o.Program, without(os.Environ(), confiner), func(r confine.Report) error {
			return out.Encode(report{Confined: &r})
		})
	}
	_ = out.Encode(report{Error: err.Error()})
	return exitFailed
}

// readConfined reads what the confiner says until it becomes the program, which closes the pipe.
func readConfined(pipe io.Reader) (*confine.Report, error) {
	var last report
	for in := json.NewDecoder(pipe); ; {
		err := in.Decode(&last)
		switch {
		case last.Error != "":
			return nil, errors.New(last.Error)
		case errors.Is(err, io.EOF) && last.Confined != nil:
			return last.Confined, nil
		case err != nil:
			return nil, fmt.Errorf("confine: it ended without a report: %w", err)
		}
	}
}

// exitOf reads a wait status.
func exitOf(s *os.ProcessState) *Exit {
	e := &Exit{Code: s.ExitCode()}
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// without leaves a variable out, else a child that embeds this package would supervise too.
func without(env []string, name string) []string {
	var keep []string
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			keep = append(keep, v)
		}
	}
	return keep
}
