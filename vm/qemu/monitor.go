package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// monitor is the host's end of QEMU's control socket (QMP, docs/interop/qmp-spec in QEMU's tree).
//
// The messages are go-qemu's. Its SocketMonitor is not used: the answers that it gives lie in its scanner's buffer, into
// which it reads the next event while they are decoded, and neither its Listen nor its Run ends before QEMU answers.
type monitor struct {
	port    *port
	events  chan qmp.Event  // closed when the connection has ended
	answers chan qmpMessage // likewise
	busy    chan struct{}   // holds a token while a command is under way
	gone    chan struct{}   // closed by hangUp

	mu   sync.Mutex
	conn *net.UnixConn // nil before connect, and after hangUp
	once sync.Once
}

// qmpMessage is what QEMU says: an event, or the answer to a command.
type qmpMessage struct {
	qmp.Event
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// listenMonitor binds the socket before QEMU starts.
func listenMonitor(ctx context.Context, path string) (*monitor, error) {
	p, err := listen(ctx, path)
	if err != nil {
		return nil, err
	}
	return &monitor{
		port: p, events: make(chan qmp.Event), answers: make(chan qmpMessage), busy: make(chan struct{}, 1),
		gone: make(chan struct{}),
	}, nil
}

// hangUp closes the connection, or ends the wait for one. It may be called at any time and more than once.
func (m *monitor) hangUp() {
	m.once.Do(func() {
		close(m.gone)
		m.port.close()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.conn != nil {
			m.conn.Close()
		}
	})
}

// fallSilent sends nothing more, for nothing can follow half an order. What QEMU says is still heard: as a rule it is
// gone, and its last words, which tell why, are yet to be read.
func (m *monitor) fallSilent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		_ = m.conn.CloseWrite() // it is closed already, or broken
	}
}

// greetLimit bounds the handshake. QEMU answers it before it has built the machine.
const greetLimit = time.Minute

// connect takes QEMU's connection, shakes hands and starts the flow of events. Events cannot be lost: the machine has
// not run yet.
func (m *monitor) connect(c net.Conn) error {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a connection of type %T, want one of a Unix socket", c)
	}
	m.mu.Lock()
	m.conn = conn
	m.mu.Unlock()
	select {
	case <-m.gone: // and hangUp may have missed the connection
		conn.Close()
	default:
	}
	in := json.NewDecoder(conn)
	var greeting struct{ QMP *struct{} }
	if err := conn.SetReadDeadline(time.Now().Add(greetLimit)); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := in.Decode(&greeting); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if greeting.QMP == nil {
		return errors.New("handshake: the first message is no QMP greeting")
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	go m.read(in)
	return m.do(greetLimit, "qmp_capabilities")
}

// read hands events and answers on, one by one, until the connection ends.
func (m *monitor) read(in *json.Decoder) {
	defer close(m.events)
	defer close(m.answers)
	for {
		var msg qmpMessage
		if in.Decode(&msg) != nil {
			return
		}
		events, answers := m.events, m.answers
		if msg.Event.Event == "" {
			events = nil
		} else {
			answers = nil
		}
		select {
		case events <- msg.Event:
		case answers <- msg:
		case <-m.gone:
			return
		}
	}
}

// errMonitor says that a command got no answer in time: QEMU's main loop hangs.
var errMonitor = errors.New("QEMU does not answer on its monitor")

// do runs a command, for at most limit.
func (m *monitor) do(limit time.Duration, command string) error {
	return m.ask(limit, command, nil, nil)
}

// ask runs a command with its arguments and decodes what it returns into answer; both may be nil. It takes at most
// limit. Then the command is still under way, and until its answer comes any further one fails like it: QEMU answers
// in order.
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
	if err := m.send(order, file, limit); err != nil {
		m.fallSilent()
		<-m.busy
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case msg, ok := <-m.answers:
		<-m.busy
		if err := msg.decode(ok, answer); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		return nil
	case <-timeout.C:
		go func() { // its answer is not the next command's
			<-m.answers
			<-m.busy
		}()
		return fmt.Errorf("%s: %w", command, errMonitor)
	}
}

// send writes an order, and with it an open file that is not nil (SCM_RIGHTS, unix(7)).
func (m *monitor) send(order []byte, file *os.File, limit time.Duration) error {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn == nil {
		return net.ErrClosed
	}
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if file == nil {
		_, err := conn.Write(order)
		return err
	}
	_, _, err := conn.WriteMsgUnix(order, unix.UnixRights(int(file.Fd())), nil)
	return err
}

// decode reads an answer; ok is false where none came.
func (msg qmpMessage) decode(ok bool, answer any) error {
	switch {
	case !ok:
		return io.ErrUnexpectedEOF
	case msg.Error != nil:
		return errors.New(msg.Error.Desc)
	case answer == nil:
		return nil
	}
	return json.Unmarshal(msg.Return, answer)
}
