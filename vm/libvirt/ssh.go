package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialSSH starts the ssh program, so that the user's own configuration, keys and agent count, and speaks to libvirtd
// through it. On the other end it needs what virsh needs: libvirt's virt-ssh-helper or, for a named socket, nc.
//
// Nothing of it outlives Belljar: when its end of the socket pair closes, ssh reads the end of its input, and ends.
func (t target) dialSSH(ctx context.Context) (net.Conn, error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return nil, t.fault(err).WithRemedy("install OpenSSH's client: apt-get install openssh-client")
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, t.fault(err)
	}
	defer theirs.Close()
	c := &sshConn{Conn: ours, done: make(chan struct{})}
	c.ssh = &exec.Cmd{ // it lives as long as the connection, not as ctx
		Path: program, Args: append([]string{"ssh"}, t.sshArgs()...),
		Stdin: theirs, Stdout: theirs, Stderr: &c.said, WaitDelay: time.Second,
	}
	if err := c.ssh.Start(); err != nil {
		ours.Close()
		return nil, t.fault(err)
	}
	go func() {
		defer close(c.done)
		c.ended = c.ssh.Wait()
	}()
	return c, nil
}

// sshArgs is ssh's argument list: no terminal, no escape character, no question that nobody could answer.
func (t target) sshArgs() []string {
	args := []string{"-T", "-e", "none", "-o", "BatchMode=yes"}
	if t.port != "" {
		args = append(args, "-p", t.port)
	}
	if t.user != "" {
		args = append(args, "-l", t.user)
	}
	if t.keyfile != "" {
		args = append(args, "-i", t.keyfile)
	}
	return append(args, "--", t.host, t.remoteCommand())
}

// remoteCommand connects ssh's standard input and output to libvirtd.
func (t target) remoteCommand() string {
	if t.socket != "" {
		return "exec nc -U " + quote(t.socket)
	}
	return "exec virt-ssh-helper " + quote(t.driver)
}

// quote is a word for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// socketPair is a connection, and its other end for a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "ssh")
	defer ours.Close() // FileConn makes a copy
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return c, theirs, nil
}

// sshConn is a connection through an ssh program. Where it ends early, what ssh said tells why.
type sshConn struct {
	net.Conn
	ssh   *exec.Cmd
	said  bytes.Buffer // read after done alone
	done  chan struct{}
	ended error
	once  sync.Once
}

// Read says why ssh ended, if it ended badly.
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return n, err
	}
	if why := c.why(); why != nil { // its end of the pair is closed: it has ended, or is about to
		err = why
	}
	return n, err
}

// why waits for ssh's end and tells what it said, if it ended badly.
func (c *sshConn) why() error {
	<-c.done
	if said := strings.TrimSpace(c.said.String()); c.ended != nil && said != "" {
		return fmt.Errorf("ssh: %s", said)
	}
	if c.ended != nil {
		return fmt.Errorf("ssh: %w", c.ended)
	}
	return nil
}

// Close hangs up and reaps ssh.
func (c *sshConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		select {
		case <-c.done:
		case <-time.After(2 * time.Second):
			_ = c.ssh.Process.Kill()
			<-c.done
		}
	})
	return err
}
