package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

// monitor is the host's end of QEMU's control socket (QMP, docs/interop/qmp-spec in QEMU's tree).
type monitor struct {
	path   string
	ready  chan struct{} // closed when QEMU has connected, or never will
	failed error         // why it never will; read after ready
	socket *qmp.SocketMonitor
	events <-chan qmp.Event
	busy   chan struct{} // holds a token while a command is under way
}

// listenMonitor listens in the background. go-qemu's Listen has no way out but a connection: see giveUp.
func listenMonitor(path string) (*monitor, error) {
	m := &monitor{path: path, ready: make(chan struct{}), busy: make(chan struct{}, 1)}
	go func() {
		defer close(m.ready)
		m.socket, m.failed = qmp.Listen("unix", path)
	}()
	// QEMU must find a listener: wait for the socket's name to appear.
	for range 200 {
		if _, err := os.Lstat(path); err == nil {
			return m, nil
		}
		select {
		case <-m.ready:
			return nil, m.failed
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil, errors.New("no socket after a second")
}

// giveUp ends a Listen for which QEMU will never come, by taking its place for a moment. After it, nothing uses the
// socket's path any more.
func (m *monitor) giveUp() {
	select {
	case <-m.ready:
		return
	default:
	}
	// A context of its own: it is also the way out when the machine's context has ended.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c, err := new(net.Dialer).DialContext(ctx, "unix", m.path); err == nil {
		c.Close()
	}
	<-m.ready
}

// hangUp closes the connection, if there is one.
func (m *monitor) hangUp() {
	m.giveUp()
	if m.socket != nil {
		_ = m.socket.Disconnect()
	}
}

// connect shakes hands and starts the flow of events. Events cannot be lost: the machine has not run yet.
func (m *monitor) connect(ctx context.Context) error {
	if err := m.socket.Connect(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	var err error
	m.events, err = m.socket.Events(ctx)
	return err
}

// errMonitor says that a command got no answer in time: QEMU's main loop hangs.
var errMonitor = errors.New("QEMU does not answer on its monitor")

// do runs a command, for at most limit.
func (m *monitor) do(limit time.Duration, command string) error {
	return m.ask(limit, command, nil, nil)
}

// ask runs a command with its arguments and decodes what it returns into answer; both may be nil. It takes at most
// limit: go-qemu's own wait has no end. Then the command is still under way, and until its answer comes any further one
// fails like it: QEMU answers in order, and go-qemu would have each wait for its turn in a goroutine of its own.
func (m *monitor) ask(limit time.Duration, command string, args, answer any) error {
	return m.exchange(limit, command, args, nil, answer)
}

// hand gives QEMU an open file, which it knows by that name from then on (getfd, qapi/misc.json).
func (m *monitor) hand(limit time.Duration, name string, f *os.File) error {
	return m.exchange(limit, "getfd", map[string]any{"fdname": name}, f, nil)
}

func (m *monitor) exchange(limit time.Duration, command string, args any, file *os.File, answer any) error {
	order, err := json.Marshal(qmp.Command{Execute: command, Args: args})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case m.busy <- struct{}{}:
	case <-timeout.C:
		return fmt.Errorf("%s: %w", command, errMonitor)
	}
	type reply struct {
		text []byte
		err  error
	}
	done := make(chan reply, 1)
	go func() {
		text, err := m.socket.RunWithFile(order, file)
		done <- reply{text, err}
		<-m.busy
	}()
	select {
	case r := <-done:
		if r.err == nil && answer != nil {
			r.err = json.Unmarshal(r.text, &struct{ Return any }{answer})
		}
		if r.err != nil {
			return fmt.Errorf("%s: %w", command, r.err)
		}
		return nil
	case <-timeout.C:
		return fmt.Errorf("%s: %w", command, errMonitor)
	}
}
