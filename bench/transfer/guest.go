package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/qemu"
)

// guest is a booted machine with an SSH connection of this program's own, and Belljar's agent at the other end of it.
type guest struct {
	vm    vm.Guest
	ssh   *ssh.Client
	in    *wire.Writer
	out   *wire.Reader
	id    uint64
	agent net.Conn
}

const (
	port        = "belljar.ssh"
	agentSocket = "/belljar/agent.sock"
)

// boot starts the guest with the disks of a stage. The input disk holds mib MiB of noise.
func boot(ctx context.Context, b booted, o options, dir string) (_ *guest, err error) {
	client, files, err := keys()
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := makeInitrd(initrd, b.Initrd, files); err != nil {
		return nil, err
	}
	disk := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		makeInputs(ctx, disk("inputs"), o.mib),
		image.Scratch(disk("scratch"), 8<<30),
		os.WriteFile(disk("outputs"), nil, 0o600), os.Truncate(disk("outputs"), 16<<30),
		os.Chmod(dir, 0o755), // QEMU may run as another user
	); err != nil {
		return nil, err
	}
	m := vm.Machine{
		Name: "transfer", Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 2, Memory: 2 << 30, Accel: vm.TCG,
		Clock: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Entropy: true, OnReset: vm.ExitOnReset, Ports: []string{port},
		Boot: vm.Boot{Kernel: b.Kernel, Initrd: initrd, Cmdline: b.Cmdline},
	}
	if strings.HasSuffix(o.guest, "i686") {
		m.Arch, m.CPU = vm.I686, "coreduo-v1"
	}
	for _, name := range []string{"root", "inputs", "scratch", "outputs"} {
		d := vm.Disk{Serial: name, Path: disk(name), Bus: vm.BusVirtio, ReadOnly: name == "inputs"}
		if name == "root" {
			d.Path, d.ReadOnly = b.Root, true
		}
		m.Disks = append(m.Disks, d)
	}
	run := disk("run")
	if err := os.Mkdir(run, 0o755); err != nil {
		return nil, err
	}
	g := &guest{}
	if g.vm, err = (&qemu.Backend{}).Start(ctx, m, run); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err := g.connect(ctx, client); err != nil {
		return nil, err
	}
	return g, g.dialAgent()
}

// keys makes two key pairs: the guest's host key and the one that it lets in.
func keys() (client ssh.Signer, files []initramfs.File, err error) {
	_, host, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	_, user, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if client, err = ssh.NewSignerFromKey(user); err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(host, "bench")
	if err != nil {
		return nil, nil, err
	}
	return client, []initramfs.File{
		initramfs.Bytes("ssh_host_ed25519_key", 0o600, pem.EncodeToMemory(block)),
		initramfs.Bytes("authorized_keys", 0o600, ssh.MarshalAuthorizedKey(client.PublicKey())),
	}, nil
}

func makeInitrd(path, base string, files []initramfs.File) error {
	data, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	buf := bytes.NewBuffer(data)
	if err := initramfs.RunFiles(buf, files); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o600)
}

func makeInputs(ctx context.Context, path string, mib int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	noise := image.Part{File: "data", Plain: true, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(newNoise(), mib<<20)), nil
	}}
	tree := []image.Tree{{Name: "noise", Parts: []image.Part{noise}}}
	return image.WriteTree(ctx, f, tree, image.TreeOptions{Clock: time.Unix(1.7e9, 0), TempDir: filepath.Dir(path)})
}

// connect opens SSH with the algorithms that Belljar chooses.
func (g *guest) connect(ctx context.Context, client ssh.Signer) error {
	conn, err := g.vm.Dial(ctx, port)
	if err != nil {
		return err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, "guest", &ssh.ClientConfig{
		Config:          ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}, Ciphers: []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM}},
		User:            "root",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(client)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // made a moment ago, for this machine alone
	})
	if err != nil {
		return err
	}
	g.ssh = ssh.NewClient(c, chans, reqs)
	return nil
}

// dialAgent has sshd connect this program to the agent, which waits on a socket, and reads its hello.
func (g *guest) dialAgent() (err error) {
	if g.agent, err = g.ssh.Dial("unix", agentSocket); err != nil {
		return fmt.Errorf("connect to the agent: %w", err)
	}
	g.in, g.out = wire.NewWriter(g.agent), wire.NewReader(g.agent)
	_, err = g.out.Read()
	return err
}

// shell runs a command by SSH alone and times it.
func (g *guest) shell(command string, in io.Reader, out io.Writer) (time.Duration, error) {
	s, err := g.ssh.NewSession()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var said bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = in, out, &said
	start := time.Now()
	if err := s.Run(command); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", command, err, said.String())
	}
	return time.Since(start), nil
}

// stage has the agent run a script whose output is the file, takes that as a build does, and tells how long the agent wrote
// after the script was done, and how long it was until the host had checked the last byte.
func (g *guest) stage(ctx context.Context, script string) (writing, all time.Duration, err error) {
	taking := provision.TakeOutputs(ctx, g.disk, g.follow, []string{"file"}, func(_ provision.Output, r io.Reader) error {
		_, err := io.CopyBuffer(sha256.New(), r, make([]byte, 1<<20))
		return err
	})

	g.id++
	err = g.in.Write(&wire.Message{ID: g.id, Kind: wire.KindStage, Stage: &wire.Stage{
		Name: "bench", Script: script, WorkDir: "/build/work", OutDir: "/build/out", Outputs: []string{"file"}, Device: "outputs",
		Env: map[string]string{"PATH": "/usr/bin:/bin", "OUT": "/build/out"},
	}})
	if err != nil {
		return 0, 0, err
	}
	var begun time.Time
	for {
		m, err := g.out.Read()
		switch {
		case err != nil:
			taking.Stop()
			return 0, 0, err
		case m.Kind == wire.KindLog:
			os.Stderr.Write(m.Log.Data)
		case m.Kind == wire.KindStep && strings.HasPrefix(m.Step.Text, "writing outputs"):
			begun = time.Now()
		case m.Kind == wire.KindWritten:
			taking.Written(m.Written.Size)
		case m.Kind == wire.KindError:
			taking.Stop()
			return 0, 0, errors.New(m.Error.Text)
		case m.Kind == wire.KindResult && (m.Result.ExitCode != 0 || m.Result.Reason != ""):
			taking.Stop()
			return 0, 0, fmt.Errorf("stage: exit %d, %s", m.Result.ExitCode, m.Result.Reason)
		case m.Kind == wire.KindResult:
			writing = time.Since(begun)
			err := taking.End(m.Result.Stream)
			return writing, time.Since(begun), err
		}
	}
}

// disk opens the output disk as the host sees it.
func (g *guest) disk(ctx context.Context, n int64) (io.ReadCloser, error) {
	return g.vm.(vm.DiskReader).OpenDisk(ctx, "outputs", n)
}

// follow opens it to be read while the guest writes.
func (g *guest) follow() (provision.Followed, error) {
	return g.vm.(vm.DiskFollower).FollowDisk("outputs")
}

func (g *guest) close() {
	if g.ssh != nil {
		g.ssh.Close()
	}
	g.vm.Close()
}

func lines(b []byte) iter.Seq[[]byte] { return bytes.SplitSeq(bytes.TrimSpace(b), []byte("\n")) }
