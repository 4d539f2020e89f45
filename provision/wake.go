package provision

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// Parked waits for a guest to say, on the port on which it is woken, that it may be saved now.
func Parked(ctx context.Context, c net.Conn, digest string) error {
	m, err := receive(ctx, c)
	switch {
	case err != nil:
		return fault.New(fault.Guest, "park guest", "%w", err)
	case m.Kind != wire.KindHello || m.Hello.Protocol != wire.Protocol || m.Hello.AgentSHA256 != digest:
		return fault.New(fault.Guest, "park guest", "another agent than this belljar's answers (%q)", m.Kind)
	}
	return nil
}

// Wake makes of a parked guest one of its own: with entropy from rand, which is crypto/rand.Reader outside tests, with
// that clock, and with these keys. It returns when all of it is in force.
func Wake(ctx context.Context, c net.Conn, rand io.Reader, clock time.Time, keys *Keys) error {
	w := wire.Wake{Entropy: make([]byte, wire.WakeEntropy), Clock: clock}
	if _, err := io.ReadFull(rand, w.Entropy); err != nil {
		return fmt.Errorf("wake guest: entropy: %w", err)
	}
	for _, f := range keys.Files() {
		w.Files = append(w.Files, wire.WakeFile{Name: f.Name, Mode: f.Mode, Data: f.Data})
	}
	const id = 1
	if err := wire.NewWriter(c).Write(&wire.Message{ID: id, Kind: wire.KindWake, Wake: &w}); err != nil {
		return fault.New(fault.Guest, "wake guest", "%w", err)
	}
	m, err := receive(ctx, c)
	switch {
	case err != nil:
		return fault.New(fault.Guest, "wake guest", "%w", err)
	case m.Kind == wire.KindError && m.ID == id:
		return fault.New(fault.Guest, "wake guest", "%s", m.Error.Text)
	case m.Kind != wire.KindResult || m.ID != id:
		return fault.New(fault.Guest, "wake guest", "it answered with %q", m.Kind)
	}
	return nil
}

// receive reads one message, until ctx ends.
func receive(ctx context.Context, c net.Conn) (*wire.Message, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	m, err := wire.NewReader(c).Read()
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m, err
}
