package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// process is a script about to run in its own session, with nothing inherited.
type process struct {
	args     []string
	env      []string
	dir      string
	user     *syscall.Credential // nil: the agent's own
	confined bool                // no setuid program below it gains anything (prctl(2) PR_SET_NO_NEW_PRIVS)
	recorded bool                // what it runs is recorded: no program may be run from where that is not seen
	timeout  time.Duration
	silence  time.Duration
	scratch  *gauge // looked at as long as it runs; nil: none
	expend   bool   // in a shortage of memory it goes before the agent does
}

// run runs the process to its end, or puts an end to it, and leaves no descendant of it alive.
func (p *process) run(ctx context.Context, log *logger) (*wire.Result, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:noctx // watch ends it, with all that is below it
	cmd.Env, cmd.Dir = p.env, p.dir
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean the agent's own
	}
	cmd.Stdout, cmd.Stderr = in, in // one pipe, so that the order is the script's
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.user, Pdeathsig: syscall.SIGKILL}

	before, err := takeMeter()
	if err != nil {
		in.Close()
		return nil, err
	}
	held := watchMemory("/proc/meminfo")
	began := time.Now()
	started, ended := make(chan error, 1), make(chan struct{})
	go p.onOwnThread(cmd, started, ended)
	err = <-started
	in.Close()
	if err != nil {
		return nil, err
	}

	var pump sync.WaitGroup
	pump.Go(func() { log.pump(out) })
	reason := p.watch(ctx, cmd.Process.Pid, log, held, ended)
	wall := time.Since(began)
	p.scratch.look()
	held.look()
	stayed, left := killDescendants()
	pump.Wait() // with every writer dead the pipe has an end
	log.finish()
	if reason == "" && len(stayed) > 0 {
		log.note("[the script ended and left processes running, which were ended: %s]", strings.Join(stayed, ", "))
	}

	res := outcome(cmd.ProcessState)
	res.Reason, res.Usage = reason, before.usage(cmd.ProcessState)
	res.Usage.Wall, res.Usage.Memory = wall, held.most
	return res, left
}

// onOwnThread starts the process from a thread of its own and stays on it until the end: no_new_privs is a thread's,
// and the parent-death signal of prctl(2) comes when the starting thread ends. The thread is not used again.
func (p *process) onOwnThread(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	if p.confined {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			started <- fmt.Errorf("no_new_privs: %w", err)
			return
		}
	}
	if p.recorded {
		if err := withoutMemfd(); err != nil {
			started <- err
			return
		}
	}
	if p.expend {
		// The child inherits it. The agent is in danger for that moment, in which nothing of the stage runs yet.
		_ = setOOM("self", stageOOM)
	}
	err := cmd.Start()
	if p.expend {
		_ = setOOM("self", agentOOM)
	}
	started <- err
	if err == nil {
		_ = cmd.Wait() // what it says is in the ProcessState too
		close(ended)
	}
}

// watch waits for the process's end and brings it about where it must; the reason is empty if it need not.
func (p *process) watch(ctx context.Context, pid int, log *logger, held *memory, ended <-chan struct{}) (reason string) {
	var timeout <-chan time.Time
	if p.timeout > 0 {
		timeout = time.After(p.timeout)
	}
	tick := time.NewTicker(min(max(p.silence/10, 20*time.Millisecond), time.Second))
	defer tick.Stop()
	done := ctx.Done()
	kill := func(why string) {
		if reason == "" {
			reason = why
		}
		done, timeout = nil, nil
		killAll(append(pids(descendants()), -pid))
	}
	for {
		select {
		case <-ended:
			return reason
		case <-done:
			kill("cancelled")
		case <-timeout:
			kill(fmt.Sprintf("timeout: still running after %s", p.timeout))
		case <-tick.C:
			p.scratch.look()
			held.look()
			if p.silence > 0 && reason == "" && log.silent() > p.silence {
				kill(fmt.Sprintf("silence: no output for %s", p.silence))
			}
		}
	}
}

func outcome(ps *os.ProcessState) *wire.Result {
	res := &wire.Result{ExitCode: ps.ExitCode()}
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		if res.Signal = unix.SignalName(ws.Signal()); res.Signal == "" {
			res.Signal = fmt.Sprintf("signal %d", ws.Signal())
		}
	}
	return res
}

// killDescendants ends and reaps every process below the agent; being their subreaper, it is the parent of orphans too.
// It names those that were there.
func killDescendants() (stayed []string, err error) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		left := descendants()
		if len(left) == 0 {
			return stayed, nil
		}
		if time.Now().After(end) {
			return stayed, fmt.Errorf("process %s of the stage does not die", left[0])
		}
		for _, p := range left {
			if len(stayed) < maxStayed && !slices.Contains(stayed, p.String()) {
				stayed = append(stayed, p.String())
			}
		}
		killAll(pids(left))
	}
}

// maxStayed is how many processes that a script left are named.
const maxStayed = 10

// running is a living process.
type running struct {
	pid  int
	name string // of its program, at most 15 bytes of it
}

func (r running) String() string {
	return fmt.Sprintf("%s (%d)", strings.ToValidUTF8(r.name, "?"), r.pid)
}

func pids(all []running) []int {
	var list []int
	for _, r := range all {
		list = append(list, r.pid)
	}
	return list
}

// killAll kills processes; one that is gone already is as it should be.
func killAll(pids []int) {
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// descendants lists the living processes below the agent, from /proc/PID/stat (proc_pid_stat(5)).
func descendants() []running {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]running{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// The second field is a command name in parentheses, which may hold anything.
		open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		fields := bytes.Fields(b[shut+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 2 || open < 0 || shut < open {
			continue
		}
		if ppid, err := strconv.Atoi(string(fields[1])); err == nil {
			children[ppid] = append(children[ppid], running{pid, string(b[open+1 : shut])})
		}
	}
	var all []running
	for next := children[os.Getpid()]; len(next) > 0; {
		p := next[0]
		next = append(next[1:], children[p.pid]...)
		all = append(all, p)
	}
	return all
}
