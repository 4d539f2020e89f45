package qemu

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// input is the serial console's socket. What comes out of it goes into the console's log here. QEMU could write that log itself
// (logfile=), but writes a byte twice for which the socket has no room: each takes some 770 bytes of its buffer, so that 278 unread
// ones fill it (chardev/char.c, qemu_chr_write_buffer, of QEMU 7.2).
type input struct {
	port *port
	conn chan net.Conn // holds the connection while nobody writes; closed without one
	read chan struct{} // closed when all that came is in the log
}

// listenInput binds the socket before QEMU starts.
func listenInput(ctx context.Context, path string, log *os.File) (*input, error) {
	p, err := listen(ctx, path)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	i := &input{port: p, conn: make(chan net.Conn, 1), read: make(chan struct{})}
	go func() {
		defer close(i.read)
		defer log.Close()
		c, ok := <-p.conn
		if !ok {
			close(i.conn)
			return
		}
		i.conn <- c
		_, _ = io.Copy(log, c)
		_, _ = io.Copy(io.Discard, c) // a full disk must not hold the machine up
		c.Close()
	}()
	return i, nil
}

// drained waits until what QEMU left in the socket at its end is in the log.
func (i *input) drained() {
	if i == nil {
		return
	}
	i.port.listener.Close() // it may never have connected
	select {
	case <-i.read:
	case <-time.After(drainLimit):
	}
}

// drainLimit is far more than a socket's buffer takes to be written.
const drainLimit = 5 * time.Second

// close ends the wait for QEMU; QEMU's own end ends the rest.
func (i *input) close() {
	if i != nil {
		i.port.listener.Close()
	}
}

// typeLimit is how long a guest may take to read what is typed: a firmware that boots does not look for keys.
const typeLimit = 30 * time.Second

// Type sends bytes to the first serial port.
func (g *guest) Type(ctx context.Context, text []byte) error {
	op := "type on the console of " + g.Name
	if g.input == nil {
		return fault.New(fault.Usage, op, "its serial console takes no input")
	}
	select {
	case c, ok := <-g.input.conn:
		if !ok {
			break
		}
		defer func() { g.input.conn <- c }()
		stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Now()) })
		defer stop()
		_ = c.SetWriteDeadline(time.Now().Add(typeLimit))
		_, err := c.Write(text)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case g.IsGone():
		default:
			return fault.New(fault.Guest, op, "%w", err)
		}
	case <-g.Gone():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return g.TooLate(op)
}

// Press presses keys one after another (QMP send-key). Between two keys stands the time that QEMU holds one down, 100 ms.
func (g *guest) Press(ctx context.Context, keys ...string) error {
	type value struct {
		Type string `json:"type"`
		Data string `json:"data"`
	}
	for _, key := range keys {
		var held []value
		for _, name := range strings.Split(key, "-") {
			held = append(held, value{"qcode", name})
		}
		if err := g.monitor.ask(commandLimit, "send-key", map[string]any{"keys": held}, nil); err != nil {
			return fault.New(fault.Host, "press "+key, "%w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(120 * time.Millisecond):
		}
	}
	return nil
}

// DialScreen connects to QEMU's VNC server, which listens in the machine's folder: QEMU itself has no network.
func (g *guest) DialScreen(ctx context.Context) (net.Conn, error) {
	op := "screen of " + g.Name
	if !g.machine.VNC {
		return nil, fault.New(fault.Usage, op, "the machine serves none")
	}
	if g.IsGone() {
		return nil, g.TooLate(op)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", g.socket(vncSocket))
	if err != nil {
		return nil, fault.New(fault.Host, op, "%w", err)
	}
	return conn, nil
}

// Command runs one of the monitor's commands that a person may give.
func (g *guest) Command(_ context.Context, name string) error {
	if _, ok := vm.MonitorCommands[name]; !ok {
		return fault.New(fault.Usage, "monitor command", "%q is none of %s", name, strings.Join(monitorCommands(), ", "))
	}
	if err := g.monitor.do(commandLimit, name); err != nil {
		return fault.New(fault.Host, "monitor command "+name, "%w", err)
	}
	return nil
}

func monitorCommands() []string {
	var names []string
	for name := range vm.MonitorCommands {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
