package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/vm"
)

// doorName is the socket in a run's folder by which a kept guest is entered: one connection is one shell, and both
// sides write doorMessages as JSON.
const doorName = "shell.sock"

// doorMessage has one of its fields set.
type doorMessage struct {
	Open *doorOpen  `json:"open,omitempty"` // from outside, first
	Data []byte     `json:"data,omitempty"` // typed, or printed
	Size *ShellSize `json:"size,omitempty"` // from outside: the terminal's new one
	End  bool       `json:"end,omitempty"`  // from outside: no more will be typed
	Exit *doorExit  `json:"exit,omitempty"` // from inside, last
}

type doorOpen struct {
	Term string    `json:"term"`
	Size ShellSize `json:"size"`
}

type doorExit struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"` // why there was no shell, or why it broke
}

// doorWriter sends messages, and what is written to it as data.
type doorWriter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func newDoorWriter(w io.Writer) *doorWriter { return &doorWriter{enc: json.NewEncoder(w)} }

func (d *doorWriter) send(m doorMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enc.Encode(m)
}

func (d *doorWriter) Write(p []byte) (int, error) { return len(p), d.send(doorMessage{Data: p}) }

// shellFunc opens a shell in a guest.
type shellFunc func(context.Context, provision.Terminal) (int, error)

// serveDoor is the inside of one connection. A shell whose person has gone away ends.
func serveDoor(ctx context.Context, c net.Conn, shell shellFunc) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	in, out := json.NewDecoder(c), newDoorWriter(c)
	var first doorMessage
	if err := in.Decode(&first); err != nil || first.Open == nil {
		return // somebody who does not know what this is
	}
	typed, typing := io.Pipe()
	resized := make(chan ShellSize, 1)
	go func() {
		defer cancel()
		for {
			var m doorMessage
			err := in.Decode(&m)
			switch {
			case err != nil:
				typing.Close()
				return
			case m.Size != nil:
				latest(resized, *m.Size)
			case m.End:
				typing.Close()
			default:
				_, _ = typing.Write(m.Data) // a shell that has ended reads no more
			}
		}
	}()
	code, err := shell(ctx, provision.Terminal{
		In: typed, Out: out, Term: first.Open.Term, Size: first.Open.Size, Resized: resized,
	})
	typed.Close()
	exit := doorExit{Code: code}
	if err != nil {
		exit.Error = err.Error()
	}
	_ = out.send(doorMessage{Exit: &exit})
}

// latest puts a value into a channel that holds one, in the place of one that nobody has taken.
func latest[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// enterDoor is the outside: it returns the shell's exit code.
func enterDoor(ctx context.Context, c net.Conn, t ShellIO) (int, error) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	out, in := newDoorWriter(c), json.NewDecoder(c)
	_ = out.send(doorMessage{Open: &doorOpen{t.Term, t.Size}}) // where it fails, reading does too
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with the connection or the terminal
		_, _ = io.Copy(out, t.In)
		_ = out.send(doorMessage{End: true})
	}()
	go func() {
		for {
			select {
			case s := <-t.Resized:
				_ = out.send(doorMessage{Size: &s})
			case <-ended:
				return
			}
		}
	}()
	for {
		var m doorMessage
		switch err := in.Decode(&m); {
		case err != nil && ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err != nil:
			return 0, fault.New(fault.Guest, "shell", "the guest is gone: its run has ended")
		case m.Exit != nil && m.Exit.Error != "":
			return 0, fault.New(fault.Guest, "", "%s", m.Exit.Error)
		case m.Exit != nil:
			return m.Exit.Code, nil
		}
		if _, err := t.Out.Write(m.Data); err != nil {
			return 0, fault.New(fault.Host, "shell", "%w", err)
		}
	}
}

// ShellInto gives a person a shell in a guest that a run has kept, and returns its exit code.
func ShellInto(ctx context.Context, cfg Config, id string, t ShellIO) (int, error) {
	h, err := open(cfg)
	if err != nil {
		return 0, err
	}
	path, err := h.runPath(id)
	if err != nil {
		return 0, err
	}
	c, err := dialIn(ctx, path, doorName)
	if err != nil {
		return 0, h.noDoor(filepath.Base(path), err)
	}
	defer c.Close()
	return enterDoor(ctx, c, t)
}

// noDoor says why a run cannot be entered.
func (h *house) noDoor(id string, err error) error {
	const only = "only a run that failed under --keep, and has not been ended since, keeps a guest; see: belljar runs"
	op := "enter run " + id
	info, known := h.runs.Find(id)
	switch {
	case known && info.State != vm.Running:
		return fault.New(fault.Usage, op, "it keeps no guest: it is over (%s)", info.State).WithRemedy(only)
	case known && info.Kept == "":
		return fault.New(fault.Usage, op, "it keeps no guest: it goes on, and nothing has failed").
			WithRemedy("follow it with 'belljar logs %s --follow'; "+only, id)
	}
	return fault.New(fault.Host, op, "%w", err)
}

// A Unix socket's address holds 108 bytes (unix(7)), which a run's path may pass. /proc/self/fd/N/NAME does not.

func listenIn(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + name})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the address is gone with d; the run folder is swept
	return l, nil
}

func dialIn(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return new(net.Dialer).DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(int(d.Fd()))+"/"+name)
}
