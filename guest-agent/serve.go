package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// server answers one host. It works on one request at a time.
type server struct {
	jar    *jar
	w      *wire.Writer
	stages *stager

	mu     sync.Mutex
	active uint64 // the request at work, 0 if none
	cancel context.CancelFunc
}

// serveSocket answers the one host that connects to a Unix socket, and ends with it. Process 1 starts it beside sshd: while both
// sides there prove who they are, the agent has time to start and to hash itself. Root alone may connect: a stage's user
// could have the agent do what root may.
func serveSocket(j *jar, path string) error {
	was := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(was)
	if err != nil {
		return err
	}
	defer l.Close()
	hello, err := greeting()
	if err != nil {
		return err
	}
	if err := j.await(readyTimeout); err != nil {
		return err
	}
	c, err := l.AcceptUnix()
	l.Close() // one host, and nobody after it
	if err != nil {
		return err
	}
	defer c.Close()
	j.guard(peer(c))
	return serve(j, hello, c, c)
}

// peer is the process that connected: the sshd of the host's session. 0 if the kernel does not tell (SO_PEERCRED, unix(7)).
func peer(c *net.UnixConn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// serve says hello and answers requests until the host hangs up; then it ends what is at work, and returns.
func serve(j *jar, hello *wire.Hello, in io.Reader, out io.Writer) error {
	// Orphans of a stage become the agent's children, so that none of them can hide.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	s := &server{jar: j, w: wire.NewWriter(out), stages: &stager{jar: j}}
	if err := s.w.Write(&wire.Message{Kind: wire.KindHello, Hello: hello}); err != nil {
		return err
	}
	var work sync.WaitGroup
	err := s.loop(wire.NewReader(in), &work)
	s.stop(0)
	work.Wait()
	if j.disks != "" { // not a guest: nothing may stay mounted
		err = errors.Join(err, s.stages.clear())
	}
	if errors.Is(err, errPoweroff) {
		return j.power()
	}
	return err
}

func greeting() (*wire.Hello, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, err
	}
	return &wire.Hello{
		Protocol: wire.Protocol, AgentSHA256: hex.EncodeToString(sum.Sum(nil)), PID: os.Getpid(), UID: os.Getuid(),
	}, nil
}

var errPoweroff = errors.New("power off")

// hangUp is how long the agent waits for the host to hang up before it powers off: its answer has to get out first.
const hangUp = 2 * time.Second

// loop takes messages until the host hangs up, which is no error.
func (s *server) loop(r *wire.Reader, work *sync.WaitGroup) error {
	type read struct {
		m   *wire.Message
		err error
	}
	reads, end := make(chan read), make(chan struct{})
	defer close(end)
	go func() {
		for {
			m, err := r.Read()
			select {
			case reads <- read{m, err}:
			case <-end:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var off <-chan time.Time
	for {
		select {
		case <-off:
			return errPoweroff
		case got := <-reads:
			switch {
			case off != nil: // whatever it is, it comes too late
				if got.err != nil {
					return errPoweroff
				}
			case errors.Is(got.err, io.EOF):
				return nil
			case got.err != nil:
				return fmt.Errorf("read request: %w", got.err)
			case got.m.Kind == wire.KindCancel:
				s.stop(got.m.ID)
			case got.m.Kind == wire.KindPoweroff:
				unix.Sync()
				if err := s.w.Write(&wire.Message{ID: got.m.ID, Kind: wire.KindResult}); err != nil {
					return errPoweroff
				}
				off = time.After(hangUp)
			default:
				s.begin(got.m, work)
			}
		}
	}
}

// stop ends the request id, or whichever is at work if id is 0.
func (s *server) stop(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != 0 && (id == 0 || id == s.active) {
		s.cancel()
	}
}

func (s *server) begin(m *wire.Message, work *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != 0 {
		s.fail(m.ID, fmt.Errorf("request %d is still at work", s.active))
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.active, s.cancel = m.ID, cancel
	work.Go(func() {
		answer, err := s.answer(ctx, m)
		cancel()
		s.mu.Lock()
		s.active = 0
		s.mu.Unlock()
		if err != nil {
			s.fail(m.ID, err)
			return
		}
		answer.ID, answer.Kind = m.ID, wire.KindResult
		if err := s.w.Write(answer); err != nil {
			s.fail(m.ID, err) // an answer may be too long for a frame
		}
	})
}

func (s *server) fail(id uint64, err error) {
	m := &wire.Message{ID: id, Kind: wire.KindError, Error: &wire.Error{Text: err.Error()}}
	if err := s.w.Write(m); err != nil {
		fmt.Fprintln(os.Stderr, "agent: answer:", err)
	}
}

func (s *server) answer(ctx context.Context, m *wire.Message) (*wire.Message, error) {
	step := func(format string, args ...any) {
		step := &wire.Step{Text: fmt.Sprintf(format, args...)}
		_ = s.w.Write(&wire.Message{ID: m.ID, Kind: wire.KindStep, Step: step})
	}
	switch m.Kind {
	case wire.KindProbe:
		seal := probe(ctx, m.Probe.Lookup)
		return &wire.Message{Seal: &seal}, nil
	case wire.KindPrepare:
		return &wire.Message{}, s.stages.prepare(m.Stage, step)
	case wire.KindStage:
		written := func(n int64) {
			_ = s.w.Write(&wire.Message{ID: m.ID, Kind: wire.KindWritten, Written: &wire.Written{Size: n}})
		}
		res, err := s.stages.run(ctx, m.Stage, step, written, func(stream string, data []byte) error {
			return s.w.Write(&wire.Message{ID: m.ID, Kind: wire.KindLog, Log: &wire.Log{Stream: stream, Data: data}})
		})
		return &wire.Message{Result: res}, err
	case wire.KindCapture:
		got, err := capture(ctx, s.jar, m.Capture)
		return &wire.Message{Captured: got}, err
	}
	return nil, fmt.Errorf("%q is no request", m.Kind)
}
