package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
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

	var before unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &before); err != nil {
		in.Close()
		return nil, err
	}
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
	reason := p.watch(ctx, cmd.Process.Pid, log, ended)
	wall := time.Since(began)
	left := killDescendants()
	pump.Wait() // with every writer dead the pipe has an end
	log.finish()

	res := outcome(cmd.ProcessState)
	res.Reason, res.Wall = reason, wall
	res.CPU, res.MaxRSS = spent(before, cmd.ProcessState)
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
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // what it says is in the ProcessState too
		close(ended)
	}
}

// watch waits for the process's end and brings it about where it must; the reason is empty if it need not.
func (p *process) watch(ctx context.Context, pid int, log *logger, ended <-chan struct{}) (reason string) {
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
		killAll(append(descendants(), -pid))
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
			if p.silence > 0 && reason == "" && log.silent() > p.silence {
				kill(fmt.Sprintf("silence: no output for %s", p.silence))
			}
		}
	}
}

func outcome(ps *os.ProcessState) *wire.Result {
	res := &wire.Result{ExitCode: ps.ExitCode(), Files: []wire.File{}}
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		if res.Signal = unix.SignalName(ws.Signal()); res.Signal == "" {
			res.Signal = fmt.Sprintf("signal %d", ws.Signal())
		}
	}
	return res
}

// spent is the time of every process that ended since before, and the size of the largest below the script's shell.
func spent(before unix.Rusage, ps *os.ProcessState) (cpu time.Duration, maxRSS int64) {
	var after unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &after) == nil {
		sum := func(r unix.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
		cpu = time.Duration(sum(after) - sum(before))
	}
	if r, ok := ps.SysUsage().(*syscall.Rusage); ok {
		maxRSS = int64(r.Maxrss) << 10 //nolint:unconvert // kilobytes (getrusage(2)), 32 bits wide on i386
	}
	return cpu, maxRSS
}

// killDescendants ends and reaps every process below the agent; being their subreaper, it is the parent of orphans too.
func killDescendants() error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		left := descendants()
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("process %d of the stage does not die", left[0])
		}
		killAll(left)
	}
}

// killAll kills processes; one that is gone already is as it should be.
func killAll(pids []int) {
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// descendants lists the living processes below the agent, from /proc/PID/stat (proc_pid_stat(5)).
func descendants() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]int{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// The second field is a command name in parentheses, which may hold anything.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 2 {
			continue
		}
		if ppid, err := strconv.Atoi(string(fields[1])); err == nil {
			children[ppid] = append(children[ppid], pid)
		}
	}
	var all []int
	for next := children[os.Getpid()]; len(next) > 0; {
		pid := next[0]
		next = append(next[1:], children[pid]...)
		all = append(all, pid)
	}
	return all
}

// logger passes a script's output on: the first headSize bytes as they come, of the rest the last tailSize at the end.
type logger struct {
	send   func(stream string, data []byte) error
	step   func(string, ...any)
	broken bool // the host is gone: what comes is dropped, so that the script can end

	total   int64
	ring    []byte // the last bytes after the head; full, it starts at total%tailSize
	shownAt time.Time
	newline bool // the head ended with one

	active  atomic.Int64 // when the script last wrote, in nanoseconds since birth
	blocked atomic.Bool  // waiting for the host, not for the script
	birth   time.Time
}

const (
	headSize = 8 << 20
	tailSize = 8 << 20
)

func newLogger(send func(stream string, data []byte) error, step func(string, ...any)) *logger {
	return &logger{send: send, step: step, birth: time.Now()}
}

// silent is how long the script has said nothing. Time in which the host would not listen does not count.
func (l *logger) silent() time.Duration {
	if l.blocked.Load() {
		return 0
	}
	return time.Since(l.birth) - time.Duration(l.active.Load())
}

// pump reads the script's output to its end.
func (l *logger) pump(r *os.File) {
	buf := make([]byte, wire.LogChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			l.blocked.Store(true)
			l.write(buf[:n])
			l.active.Store(int64(time.Since(l.birth)))
			l.blocked.Store(false)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "agent: read log:", err)
			}
			return
		}
	}
}

func (l *logger) write(p []byte) {
	if room := headSize - l.total; room > 0 {
		n := min(room, int64(len(p)))
		l.put(wire.Output, p[:n])
		l.newline = p[n-1] == '\n'
		l.total += n
		p = p[n:]
	}
	if len(p) == 0 {
		return
	}
	l.show(p)
	for len(p) > 0 {
		var n int
		if at := (l.total - headSize) % tailSize; int64(len(l.ring)) < tailSize {
			n = min(len(p), tailSize-len(l.ring))
			l.ring = append(l.ring, p[:n]...)
		} else {
			n = copy(l.ring[at:], p)
		}
		l.total += int64(n)
		p = p[n:]
	}
}

func (l *logger) put(stream string, p []byte) {
	if l.broken || len(p) == 0 {
		return
	}
	if err := l.send(stream, p); err != nil {
		l.broken = true
	}
}

// show lets whoever watches see a line now and then of what is not sent yet.
func (l *logger) show(p []byte) {
	i := bytes.LastIndexByte(p, '\n')
	if i < 0 || time.Since(l.shownAt) < time.Second || l.broken {
		return
	}
	line := p[bytes.LastIndexByte(p[:i], '\n')+1 : i]
	l.shownAt = time.Now()
	l.step("%s", bytes.ToValidUTF8(line[:min(len(line), 512)], nil))
}

// finish sends what was held back, and says what was left out.
func (l *logger) finish() {
	held := l.total - headSize
	if held <= 0 {
		return
	}
	at := 0
	if held > tailSize {
		at = int(held % tailSize)
		note := fmt.Sprintf("[%d bytes of the log left out here]\n", held-tailSize)
		if !l.newline {
			note = "\n" + note
		}
		l.put(wire.Agent, []byte(note))
	}
	for _, part := range [][]byte{l.ring[at:], l.ring[:at]} {
		for len(part) > 0 {
			n := min(len(part), wire.LogChunk)
			l.put(wire.Output, part[:n])
			part = part[n:]
		}
	}
}
