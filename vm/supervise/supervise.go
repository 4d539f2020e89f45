// Package supervise knows how to run a program that cannot outlive the one that started it.
//
// The program that wants a child re-executes itself as a small supervisor, which holds one end of a pipe (the
// death pipe) and runs the child in a process group of its own. When the other end closes, for whatever reason
// (the parent ended, crashed, was sent SIGKILL), the supervisor kills the group. Should the supervisor itself be
// killed, the kernel kills the child: its parent-death signal (prctl(2), PR_SET_PDEATHSIG) is SIGKILL, and the
// thread that it follows is locked for the supervisor's whole life.
//
// The supervisor leads a session of its own, so that Ctrl-C on the terminal reaches the parent alone.
//
// A child may be confined: then the supervisor starts this program once more, as one that builds the walls of package
// confine around itself and turns into the child. The supervisor stays outside of them.
//
// It refuses to know what the child is; QEMU and swtpm are the users.
package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/belljar/belljar/vm/confine"
)

// The environment variables that make this program a supervisor, or what confines itself and becomes the child, and the
// descriptors that these inherit.
const (
	variable   = "BELLJAR_SUPERVISE"
	confiner   = "BELLJAR_CONFINE"
	deathFD    = 3 // read end of the death pipe
	statusFD   = 4 // write end of the pipe on which the supervisor reports
	reportFD   = 3 // of the confiner: write end of the pipe on which it reports to the supervisor
	exitFailed = 127
)

// hooked says that Main was called: without it, re-executing this program would start it anew, without end.
var hooked atomic.Bool

// Command is a program to run.
type Command struct {
	Path   string   // absolute path of the program
	Args   []string // its arguments, without the program's name
	Dir    string   // its working folder
	Env    []string `json:"-"` // its whole environment; nil is this process's
	Stdout *os.File // nil is /dev/null
	Stderr *os.File // nil is /dev/null

	Confine *confine.Plan // nil runs it as free as this process
}

// Exit is how a program ended.
type Exit struct {
	Code   int            `json:"code"`             // exit code; -1 if a signal ended it
	Signal syscall.Signal `json:"signal,omitempty"` // the signal that ended it; 0 if none did
	Lost   bool           `json:"lost,omitempty"`   // the supervisor itself was killed, and took the program with it
}

func (e Exit) String() string {
	switch {
	case e.Lost:
		return "its supervisor was killed"
	case e.Signal != 0:
		return fmt.Sprintf("signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// report is a line that the supervisor writes: first the program's process id (or why it did not start), last its end.
type report struct {
	PID      int             `json:"pid,omitempty"`
	Confined *confine.Report `json:"confined,omitempty"`
	Error    string          `json:"error,omitempty"`
	Exit     *Exit           `json:"exit,omitempty"`
}

// Process is a supervised program.
type Process struct {
	PID        int // of the program; its process group has the same number
	Supervisor int // process id of the supervisor

	Confined confine.Report // what became of the Command's plan; empty without one

	death *os.File
	once  sync.Once
	done  chan struct{}
	exit  Exit
}

// Start runs c under a supervisor and returns when it runs.
func Start(c Command) (*Process, error) {
	if !hooked.Load() {
		return nil, errors.New("supervise.Main was not called first thing in main or TestMain")
	}
	order, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode order: %w", err)
	}
	deathR, deathW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("death pipe: %w", err)
	}
	defer deathR.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		deathW.Close()
		return nil, fmt.Errorf("status pipe: %w", err)
	}
	defer statusW.Close()

	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	sup := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"belljar-supervisor", c.Path},
		Env:         append(env[:len(env):len(env)], variable+"="+string(order)),
		Stdout:      file(c.Stdout),
		Stderr:      file(c.Stderr),
		ExtraFiles:  []*os.File{deathR, statusW},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := sup.Start(); err != nil {
		deathW.Close()
		statusR.Close()
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	statusW.Close() // ours: only the supervisor's copy may keep the pipe open

	in := json.NewDecoder(statusR)
	var first report
	if err := in.Decode(&first); err != nil || first.Error != "" {
		deathW.Close()
		statusR.Close()
		_ = sup.Wait()
		if err != nil {
			return nil, fmt.Errorf("supervisor: %w", err)
		}
		return nil, errors.New(first.Error)
	}
	p := &Process{PID: first.PID, Supervisor: sup.Process.Pid, death: deathW, done: make(chan struct{})}
	if first.Confined != nil {
		p.Confined = *first.Confined
	}
	go p.reap(sup, statusR, in)
	return p, nil
}

// file keeps a nil *os.File from becoming a non-nil io.Writer.
func file(f *os.File) io.Writer {
	if f == nil {
		return nil
	}
	return f
}

// reap waits for the supervisor's last report and for its end.
func (p *Process) reap(sup *exec.Cmd, status *os.File, in *json.Decoder) {
	var last report
	err := in.Decode(&last)
	status.Close()
	_ = sup.Wait()
	p.exit = Exit{Code: -1, Signal: syscall.SIGKILL, Lost: true}
	if err == nil && last.Exit != nil {
		p.exit = *last.Exit
	}
	p.Kill() // closes the pipe
	close(p.done)
}

// Done is closed when the program is gone and reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until the program is gone and says how it ended.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Kill ends the program and its whole process group. It may be called at any time and more than once.
func (p *Process) Kill() { p.once.Do(func() { p.death.Close() }) }
