package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// Options are what Open may be told beside the necessary. The zero value is the guest as Belljar makes it.
type Options struct {
	Timeout  time.Duration     // for the guest to answer SSH; 0: as long as ctx lasts
	Greet    time.Duration     // for its agent to say hello after that; default a minute
	Progress func(text string) // what is going on, for whoever watches; may be nil
	User     string            // to log in as; default root
	Dir      string            // the guest's folder with the agent and its socket; default /belljar
	Agent    []byte            // instead of the embedded one: what the guest's must be
	// Connected is called in a goroutine of its own as soon as SSH stands, before the agent is asked, with a way to ask
	// the guest for a sign of life; it goes beside whatever else is done there. May be nil.
	Connected func(ping func(context.Context) error)
}

// Open turns a connection to the guest's sshd into a Session with a running agent. dial is called again when the
// connection breaks before SSH stands, until ctx or the timeout ends; a wrong host key is final at once.
func Open(ctx context.Context, dial func(ctx context.Context) (net.Conn, error), keys *Keys, arch string,
	opts Options) (_ *Session, err error) {
	if opts.User == "" {
		opts.User = "root"
	}
	if opts.Dir == "" {
		opts.Dir = "/belljar"
	}
	if opts.Greet == 0 {
		opts.Greet = greetTimeout
	}
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	bin := opts.Agent
	if bin == nil {
		if bin, _, err = Agent(arch); err != nil {
			return nil, err
		}
	}

	opts.Progress("waiting for the guest's SSH")
	client, err := connect(ctx, dial, keys, opts)
	if err != nil {
		return nil, err
	}
	// The client's own goroutines end with the connection, whichever way Open goes.
	stop := context.AfterFunc(ctx, func() { client.Close() })
	if opts.Connected != nil {
		go opts.Connected(func(ctx context.Context) error { return ping(ctx, client) })
	}
	s, err := start(client, bin, opts)
	if !stop() && err == nil {
		s.Close()
		err = ctx.Err()
	}
	if err != nil {
		client.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open session: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return s, nil
}

// algorithms are the cheapest that both OpenSSH and x/crypto hold to be safe. The connection never leaves the machine;
// what counts is the guest's time under TCG, where OpenSSH's own first choice of key exchange takes seconds.
func algorithms(keys *Keys, user string) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org"},
			Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM},
			MACs:         []string{ssh.HMACSHA256ETM},
		},
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(keys.client)},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback:   pin(keys.host.PublicKey()),
		ClientVersion:     "SSH-2.0-belljar",
	}
}

// errHostKey marks the one handshake failure that no retry mends.
var errHostKey = errors.New("the guest's SSH host key is not the one made for this run")

func pin(key ssh.PublicKey) ssh.HostKeyCallback {
	fixed := ssh.FixedHostKey(key)
	return func(name string, addr net.Addr, got ssh.PublicKey) error {
		if err := fixed(name, addr, got); err != nil {
			return fmt.Errorf("%w: it has %s, made was %s",
				errHostKey, ssh.FingerprintSHA256(got), ssh.FingerprintSHA256(key))
		}
		return nil
	}
}

func connect(ctx context.Context, dial func(context.Context) (net.Conn, error), keys *Keys,
	opts Options) (*ssh.Client, error) {
	began, parent := time.Now(), ctx
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	var last error // of a handshake: it says more than a later dial's
	for try := 1; ; try++ {
		client, stage, err := handshake(ctx, dial, algorithms(keys, opts.User))
		switch {
		case err == nil:
			return client, nil
		case errors.Is(err, errHostKey):
			return nil, fault.New(fault.Guest, "open session", "%w", errors.Unwrap(err))
		case parent.Err() != nil && !errors.Is(parent.Err(), context.DeadlineExceeded):
			return nil, fmt.Errorf("open session: %w", context.Cause(parent))
		}
		if last == nil || (stage != "dial" && ctx.Err() == nil) {
			last = fmt.Errorf("%s: %w", stage, err)
		}
		if ctx.Err() != nil {
			waited := opts.Timeout
			if parent.Err() != nil { // the caller's deadline came first
				waited = time.Since(began).Round(time.Second / 10)
			}
			return nil, fault.New(fault.Guest, "open session", "guest did not answer SSH within %s", waited).
				WithEvidence("last try of the SSH client", last.Error())
		}
		switch {
		case fault.KindOf(err) == fault.Unknown:
		case try > 1 && fault.KindOf(err) == fault.Usage: // a port can be dialled once: what broke the handshake is the reason
			return nil, fault.New(fault.Guest, "open session", "the guest's SSH broke: %w", last)
		default: // the guest's own end, told by who watches it
			return nil, err
		}
		opts.Progress(fmt.Sprintf("waiting for the guest's SSH (try %d: %v)", try, last))
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// handshake makes one try, and names the part of it that went wrong.
func handshake(ctx context.Context, dial func(context.Context) (net.Conn, error),
	cfg *ssh.ClientConfig) (*ssh.Client, string, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, "dial", err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, chans, reqs, err := ssh.NewClientConn(conn, "guest", cfg)
	if !stop() && err == nil {
		c.Close()
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if key := hostKeyError(err); key != nil {
			err = fmt.Errorf("%w", key)
		}
		return nil, "handshake", err
	}
	return ssh.NewClient(c, chans, reqs), "", nil
}

// hostKeyError finds errHostKey with its detail in what the SSH library has wrapped around it.
func hostKeyError(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if errors.Unwrap(e) == errHostKey { //nolint:errorlint // one level on purpose
			return e
		}
	}
	return nil
}

// start has sshd connect it to the agent, and checks who answers.
func start(client *ssh.Client, bin []byte, opts Options) (*Session, error) {
	opts.Progress("waiting for the guest-agent")
	path := strings.TrimSuffix(opts.Dir, "/") + "/agent"
	deadline := time.Now().Add(opts.Greet)
	conn, err := connectAgent(client, path+".sock", deadline)
	if err != nil {
		return nil, err
	}
	s := &Session{
		client: client, opts: opts, agent: path, w: wire.NewWriter(conn),
		msgs: make(chan *wire.Message), gone: make(chan struct{}), closed: make(chan struct{}),
	}
	go s.read(wire.NewReader(conn))
	sum := sha256.Sum256(bin)
	if err := s.greet(hex.EncodeToString(sum[:]), time.After(time.Until(deadline))); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connectAgent has sshd connect to a Unix socket (direct-streamlocal, PROTOCOL in OpenSSH's source): the agent has been
// started beside it, and may not listen yet. To have sshd start the agent would cost a shell and the agent's start after
// the handshake, not beside it.
func connectAgent(client *ssh.Client, socket string, deadline time.Time) (net.Conn, error) {
	for {
		conn, err := client.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); !refused || time.Now().After(deadline) {
			return nil, fault.New(fault.Guest, "guest-agent", "connect to %s: %w", socket, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// greetTimeout bounds how long the agent may be silent: it waits for the guest's disks, on a host that may be busy.
const greetTimeout = 60 * time.Second

func (s *Session) greet(digest string, deadline <-chan time.Time) error {
	m, err := s.next(deadline)
	if err != nil {
		return err
	}
	switch h := m.Hello; {
	case m.Kind != wire.KindHello:
		return fault.New(fault.Guest, "guest-agent", "it spoke of %q before it said hello", m.Kind)
	case h.Protocol != wire.Protocol:
		return fault.New(fault.Guest, "guest-agent",
			"it speaks protocol %d, this belljar speaks %d", h.Protocol, wire.Protocol).
			WithRemedy("run 'make' so that belljar and its agents come from the same source")
	case h.AgentSHA256 != digest:
		return fault.New(fault.Guest, "guest-agent", "its SHA-256 is %s, this belljar's is %s", h.AgentSHA256, digest)
	default:
		s.Hello = *h
		return nil
	}
}
