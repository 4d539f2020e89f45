package libvirt

import (
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/vm/libvirt/libvirttest"
	"github.com/belljar/belljar/vm/vmtest"
)

// sshHost is an SSH server on the loopback interface that runs what it is asked to in a shell, with a throw-away key for
// itself and one for its user. The ssh program finds both in a configuration file of its own, as a user's would say it.
func sshHost(t *testing.T, env ...string) (host string) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Fatal("ssh is not installed: apt-get install openssh-client")
	}
	dir := t.TempDir()
	hostKey, userKey := newKey(t), newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(signer(t, userKey).PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(signer(t, hostKey))
	l := listen(t, "")
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(c, config, env)
		}
	}()

	block, err := ssh.MarshalPrivateKey(userKey, "")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := l.Addr().(*net.TCPAddr).Port
	known := write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(signer(t, hostKey).PublicKey())), 0o600)
	key := write("key", string(pem.EncodeToMemory(block)), 0o600)
	conf := write("config", fmt.Sprintf("Host elsewhere\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n IdentitiesOnly yes\n"+
		" UserKnownHostsFile %s\n GlobalKnownHostsFile /dev/null\n", port, key, known), 0o600)
	real, _ := exec.LookPath("ssh")
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("bin/ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", real, conf), 0o755)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return "elsewhere"
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signer(t *testing.T, key ed25519.PrivateKey) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen listens on a Unix socket, or on a free TCP port.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	network := "unix"
	if path == "" {
		network, path = "tcp", "127.0.0.1:0"
	}
	l, err := net.Listen(network, path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serveSSH runs each session's command.
func serveSSH(c net.Conn, config *ssh.ServerConfig, env []string) {
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		c.Close()
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		session, requests, err := asked.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(r.Type == "exec", nil)
				if r.Type == "exec" {
					var order struct{ Command string }
					_ = ssh.Unmarshal(r.Payload, &order)
					go runSession(session, order.Command, env)
				}
			}
		}()
	}
}

func runSession(session ssh.Channel, command string, env []string) {
	defer session.Close()
	cmd := exec.Command("sh", "-c", command)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = session, session.Stderr()
	if os.Getuid() == 0 { // the libvirt of a session is not root's: libvirttest's runs as nobody
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(in, session)
		in.Close()
	}()
	_ = cmd.Wait()
	_, _ = session.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}))
}

// A machine on 'another' host: everything but the host is as it would be.
func TestThroughSSH(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	host := sshHost(t, "XDG_RUNTIME_DIR="+filepath.Join(s.Dir, "run"))
	b := &Backend{URI: "qemu+ssh://" + host + "/session", Pool: libvirttest.Pool}
	dir := t.TempDir()
	m := romMachine(t, dir, "pc-q35-6.2", "over ssh", vmtest.PowerOff)
	if err := b.Preflight(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	g, err := b.Start(t.Context(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if out, err := io.ReadAll(g.Console()); err != nil || string(out) != "over ssh\n" {
		t.Errorf("console %q, %v", out, err)
	}
	t.Run("a host that nobody knows", func(t *testing.T) {
		hostFault(t, (&Backend{URI: "qemu+ssh://nobody@elsewhere.invalid/session"}).Preflight(t.Context(), m), "ssh: ", "ssh -T")
	})
	t.Run("a socket that is not there", func(t *testing.T) {
		err := (&Backend{URI: "qemu+ssh://" + host + "/session?socket=/nonexistent"}).Preflight(t.Context(), m)
		hostFault(t, err, "ssh: ", "ssh -T")
	})
}

// The ssh program ends with its connection, and what it says is told.
func TestSSHEnds(t *testing.T) {
	host := sshHost(t)
	target, err := parseURI("qemu+ssh://" + host + "/system")
	if err != nil {
		t.Fatal(err)
	}
	c, err := target.dialSSH(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ssh := c.(*sshConn)
	_ = c.Close()
	select {
	case <-ssh.done:
	default:
		t.Error("ssh still runs after Close")
	}
	t.Setenv("PATH", t.TempDir())
	_, err = target.dialSSH(t.Context())
	hostFault(t, err, "ssh", "openssh-client")
}
