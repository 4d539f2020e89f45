package provision

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/guest-agent/wire"
)

// agentBin is the real guest-agent, built for this machine.
var agentBin []byte

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "belljar-provision-")
	if err != nil {
		panic(err)
	}
	bin := filepath.Join(dir, "agent")
	cmd := exec.Command("go", "build", "-o", bin, "../guest-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build guest-agent: %v\n%s", err, out)
		os.Exit(1)
	}
	if agentBin, err = os.ReadFile(bin); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// guest is a folder in place of a virtual machine, with a real SSH server before it.
type guest struct {
	t    *testing.T
	dir  string
	keys *Keys
	host ssh.Signer // what the server proves itself with

	mu    sync.Mutex
	conns []net.Conn // the server's ends
	wg    sync.WaitGroup
	ended chan struct{} // closed when the agent that start started has ended
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	keys, err := NewKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, dir: t.TempDir(), keys: keys}
	for _, name := range []string{"belljar", "build", "inputs", "tmp", "disks"} {
		if err := os.Mkdir(filepath.Join(g.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disk, err := os.Create(g.disk())
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	disk.Close()
	if g.host, err = ssh.ParsePrivateKey(keys.Files()[0].Data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.cut()
		g.wg.Wait()
	})
	return g
}

func (g *guest) disk() string { return filepath.Join(g.dir, "disks", "outputs") }

// dial is a socket pair with a new server on its other end: like a virtio-serial port it has buffers and no address.
func (g *guest) dial(context.Context) (net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			return nil, err
		}
		f.Close()
	}
	g.mu.Lock()
	g.conns = append(g.conns, ends[1])
	g.mu.Unlock()
	g.wg.Go(func() { g.serve(ends[1]) })
	return ends[0], nil
}

// cut breaks every connection, as a machine that is gone does.
func (g *guest) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
}

func (g *guest) serve(conn net.Conn) {
	defer conn.Close()
	allowed, _, _, _, err := ssh.ParseAuthorizedKey(g.keys.Files()[1].Data)
	if err != nil {
		g.t.Error(err)
		return
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(allowed.Marshal()) {
			return nil, fmt.Errorf("key not allowed")
		}
		return nil, nil
	}}
	cfg.AddHostKey(g.host)
	_, chans, reqs, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for c := range chans {
		if c.ChannelType() == "direct-streamlocal@openssh.com" {
			g.wg.Go(func() { g.connect(c) })
			continue
		}
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		g.wg.Go(func() { g.session(ch, reqs) })
	}
}

// connect connects a channel to a Unix socket, like sshd (direct-streamlocal, PROTOCOL in OpenSSH's source).
func (g *guest) connect(c ssh.NewChannel) {
	var p struct {
		Socket, Reserved string
		Number           uint32
	}
	ssh.Unmarshal(c.ExtraData(), &p)
	agent, err := net.Dial("unix", p.Socket)
	if err != nil {
		c.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	defer agent.Close()
	ch, reqs, err := c.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	go func() {
		io.Copy(agent, ch)
		agent.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(ch, agent)
	ch.Close()
}

// start starts the agent as process 1 of a guest does.
func (g *guest) start() {
	g.t.Helper()
	bin := filepath.Join(g.dir, "belljar", "agent")
	if err := os.WriteFile(bin, agentBin, 0o755); err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", bin+".sock")
	cmd.Env = g.environment()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.ended = make(chan struct{})
	go func() {
		defer close(g.ended)
		cmd.Wait()
	}()
	g.t.Cleanup(func() {
		g.cut()
		select {
		case <-g.ended:
		case <-time.After(10 * time.Second):
			g.t.Error("the agent does not end with its host")
			cmd.Process.Kill()
			<-g.ended
		}
	})
}

// pretend takes the agent's place: it says something to the first that connects, and hangs up if it is to.
func (g *guest) pretend(say []byte, hangUp bool) {
	g.t.Helper()
	l, err := net.Listen("unix", filepath.Join(g.dir, "belljar", "agent.sock"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write(say)
		if !hangUp {
			io.Copy(io.Discard, c)
		}
	}()
}

func (g *guest) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "BELLJAR_TEST_JAR=" + g.dir, "SECRET=of the host"}
}

// session runs the command that is asked for, like sshd, but in the guest's folder and without a terminal.
func (g *guest) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	for req := range reqs {
		if req.Type != "exec" {
			req.Reply(req.Type == "pty-req", nil)
			continue
		}
		var p struct{ Command string }
		ssh.Unmarshal(req.Payload, &p)
		req.Reply(true, nil)
		go func() {
			for r := range reqs {
				r.Reply(false, nil)
			}
		}()
		cmd := exec.Command("/bin/sh", "-c", p.Command)
		cmd.Env = g.environment()
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		in, err := cmd.StdinPipe()
		if err != nil {
			g.t.Error(err)
			return
		}
		go func() {
			io.Copy(in, ch)
			in.Close()
		}()
		if err := cmd.Start(); err != nil {
			g.t.Error(err)
			return
		}
		cmd.Wait()
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal     string
				CoreDumped bool
				Message    string
				Lang       string
			}{"KILL", false, "", ""}))
			return
		}
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}))
		return
	}
}

func (g *guest) options() Options {
	return Options{Dir: filepath.Join(g.dir, "belljar"), Agent: agentBin, Timeout: 30 * time.Second}
}

// open opens a session that the test's end closes.
func (g *guest) open() *Session {
	g.t.Helper()
	g.start()
	s, err := Open(g.t.Context(), g.dial, g.keys, "x86_64", g.options())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { s.Close() })
	return s
}

// stage is one that runs script and owes the outputs.
func (g *guest) stage(script string, outputs ...string) wire.Stage {
	return wire.Stage{
		Name: "rom", Script: script, WorkDir: g.dir + "/build", OutDir: g.dir + "/build/out",
		Env: map[string]string{
			"PATH": "/usr/local/bin:/usr/bin:/bin", "OUT": g.dir + "/build/out", "HOME": g.dir + "/build/home",
		},
		Outputs: outputs, Device: "outputs",
	}
}
