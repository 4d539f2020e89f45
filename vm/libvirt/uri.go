package libvirt

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/belljar/belljar/fault"
)

// DefaultURI is the system's own libvirt.
const DefaultURI = "qemu:///system"

// tcpPort is where libvirtd listens without encryption: LIBVIRTD_TCP_PORT, src/remote/remote_driver.h.
const tcpPort = "16509"

// target is a libvirtd and the way to it: what a URI says (docs/uri.html of libvirt).
type target struct {
	uri       string // as it was given
	transport string // unix, tcp or ssh
	host      string // with a port for tcp
	port      string // of ssh
	user      string // of ssh; may be empty
	keyfile   string // of ssh; may be empty
	socket    string // path of a socket, there; empty is the driver's usual one
	driver    string // what to ask that libvirtd for: qemu:///system or qemu:///session
}

// CheckURI says what is wrong with a URI, without going there; an empty one is DefaultURI.
func CheckURI(uri string) error {
	_, err := (&Backend{URI: uri}).target()
	return err
}

// parseURI understands qemu:///system, qemu:///session, qemu+unix:///…, qemu+tcp://host[:port]/… and
// qemu+ssh://[user@]host[:port]/…, each with ?socket=PATH where that makes sense, and ?keyfile=PATH for ssh.
func parseURI(uri string) (target, error) {
	wrong := func(format string, args ...any) error {
		return fault.New(fault.Usage, "libvirt URI "+uri, format, args...).
			WithRemedy("use %s, qemu:///session, qemu+ssh://HOST/system or qemu+tcp://HOST/system", DefaultURI)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return target{}, wrong("%w", err)
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	query := u.Query()
	t := target{
		uri: uri, transport: transport, host: u.Host, user: u.User.Username(),
		socket: query.Get("socket"), keyfile: query.Get("keyfile"), driver: driver + "://" + u.Path,
	}
	switch {
	case driver != "qemu":
		return target{}, wrong("the driver is %q: Belljar needs qemu", driver)
	case u.Path != "/system" && u.Path != "/session":
		return target{}, wrong("the path is %q: want /system or /session", u.Path)
	case transport == "" && u.Host != "":
		return target{}, wrong("TLS is not supported: go through ssh")
	}
	for key := range query {
		if known := []string{"socket", "keyfile"}; !slices.Contains(known, key) {
			return target{}, wrong("the parameter %q is not known: want %s", key, strings.Join(known, " or "))
		}
	}
	switch transport {
	case "", "unix":
		t.transport = "unix"
	case "tcp":
		if u.Port() == "" {
			t.host = net.JoinHostPort(u.Hostname(), tcpPort)
		}
	case "ssh":
		t.host, t.port = u.Hostname(), u.Port()
	default:
		return target{}, wrong("the transport %q is not supported: want unix, tcp or ssh", transport)
	}
	if t.transport != "unix" && u.Hostname() == "" {
		return target{}, wrong("no host is named")
	}
	return t, nil
}

// dial makes a connection to the target. Each stream has one of its own.
func (t target) dial(ctx context.Context) (net.Conn, error) {
	switch t.transport {
	case "tcp":
		c, err := new(net.Dialer).DialContext(ctx, "tcp", t.host)
		if err != nil {
			return nil, t.fault(err).WithRemedy("check that libvirtd listens on TCP there (libvirtd --listen, " +
				"listen_tcp in libvirtd.conf), or go through ssh: qemu+ssh://HOST/system")
		}
		return c, nil
	case "ssh":
		return t.dialSSH(ctx)
	}
	return t.dialUnix(ctx)
}

// fault is a failure to reach libvirtd.
func (t target) fault(err error) *fault.Error {
	return fault.New(fault.Host, "connect to libvirt", "%s: %w", t.uri, err)
}

// dialUnix tries the sockets of libvirtd and of its successor, virtqemud, in this order.
func (t target) dialUnix(ctx context.Context) (net.Conn, error) {
	paths := t.sockets()
	var first error
	for _, path := range paths {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return c, nil
		}
		// Where none is, the first is the usual one; a socket that is there but may not be used says more.
		if first == nil || errors.Is(first, fs.ErrNotExist) {
			first = err
		}
	}
	return nil, t.noSocket(first)
}

// noSocket is the fault of a Unix socket that does not open.
func (t target) noSocket(err error) *fault.Error {
	f := t.fault(err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return f.WithRemedy("add yourself to the group libvirt and log in again: sudo usermod -aG libvirt $USER; " +
			"or use your own libvirt: qemu:///session")
	case t.driver == "qemu:///session":
		return f.WithRemedy("start your libvirt: virsh -c qemu:///session version (libvirt-daemon and " +
			"libvirt-clients must be installed)")
	}
	return f.WithRemedy("install and start libvirt: apt-get install libvirt-daemon-system, systemctl start libvirtd")
}

// sockets are where libvirt listens on this host: docs/daemons.html of libvirt.
func (t target) sockets() []string {
	if t.socket != "" {
		return []string{t.socket}
	}
	dir := "/run/libvirt"
	if t.driver == "qemu:///session" {
		run := os.Getenv("XDG_RUNTIME_DIR")
		if run == "" {
			run = "/run/user/" + strconv.Itoa(os.Getuid())
		}
		dir = filepath.Join(run, "libvirt")
	}
	return []string{filepath.Join(dir, "libvirt-sock"), filepath.Join(dir, "virtqemud-sock")}
}

// String names the target for people.
func (t target) String() string { return "libvirt at " + t.uri }
