// Package qemu knows how to start a vm.Machine as a QEMU process, how to hear what becomes of it, and how to end it.
//
// Its parts: Args (a pure function from a Machine to a command line), Preflight (what this host's QEMU offers), the
// guest (process, sockets, logs) and the monitor (QMP, whose events decide what Wait says).
// It refuses to know what runs in the machine, and it never reads the console to find out.
package qemu

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
	"github.com/belljar/belljar/vm/tpm"
)

// Backend runs machines as QEMU processes. The zero value is ready for use.
type Backend struct {
	// Binary overrides the QEMU program; empty is the one in PATH for the machine's architecture.
	Binary string
	// Grace is how long Close waits for a guest that was asked to power off, and then for QEMU that was asked to
	// quit; 0 is two seconds.
	Grace time.Duration

	mu     sync.Mutex
	offers map[string]*offer // by binary: what Preflight learned
}

var _ vm.Backend = (*Backend)(nil)

const defaultGrace = 2 * time.Second

// remedyInstall is said wherever QEMU is missing.
const remedyInstall = "install QEMU: apt-get install qemu-system-x86"

// binary finds the program for an architecture. The 64-bit QEMU runs 32-bit machines too.
func (b *Backend) binary(arch string) (string, error) {
	names := []string{"qemu-system-x86_64"}
	if arch == vm.I686 {
		names = []string{"qemu-system-i386", "qemu-system-x86_64"}
	}
	if b.Binary != "" {
		names = []string{b.Binary}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fault.New(fault.Host, "find qemu", "%s is not installed", names[0]).WithRemedy(remedyInstall)
}

// Start boots m. It returns when the first instruction may run; sockets, logs and the command line lie in dir, which
// must exist. The machine lives no longer than ctx and no longer than this process. A failed Start leaves nothing
// behind.
func (b *Backend) Start(ctx context.Context, m vm.Machine, dir string) (vm.Guest, error) {
	return b.start(ctx, m, dir, nil)
}

// start boots m, or lets it go on from a state that is not nil.
func (b *Backend) start(ctx context.Context, m vm.Machine, dir string, state io.Reader) (_ vm.Guest, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	binary, err := b.binary(m.Arch)
	if err != nil {
		return nil, err
	}
	if m, err = absolute(m); err != nil {
		return nil, err
	}
	if m.Boot.Kernel != "" && m.Boot.ROM == "" {
		m.Boot.ROM = starterROM(binary)
	}
	byHand, err := Args(m, ByHand)
	if err != nil {
		return nil, fault.New(fault.Usage, "start "+m.Name, "%w", err)
	}
	life := vm.NewLife(m.Name)
	g := &guest{
		Life:    life,
		Logs:    vm.Logs{Dir: dir, Until: life.Gone()},
		machine: m,
		command: fmt.Sprintf("cd %s && %s", Quote([]string{dir}), Quote(append([]string{binary}, byHand...))),
		screen:  m.Screen,
		hasOS:   m.Boot.Kernel != "",
		grace:   b.Grace,
		ports:   map[string]*port{},
	}
	if g.grace == 0 {
		g.grace = defaultGrace
	}
	defer func() {
		if err != nil {
			g.abort()
		}
	}()
	if g.confined, err = newConfinement(m, binary, dir); err != nil {
		return nil, fault.New(fault.Host, "start "+m.Name, "%w", err)
	}
	mode := Run
	if state != nil {
		mode = Incoming
	}
	argv, err := Args(g.confined.machine, mode)
	if err != nil {
		return nil, err
	}
	argv = append(argv, g.confined.flags...)
	if err := g.prepare(ctx, m, binary, argv); err != nil {
		if fault.KindOf(err) != fault.Unknown || ctx.Err() != nil {
			return nil, err
		}
		return nil, fault.New(fault.Host, "start "+m.Name, "%w", err)
	}
	if err := g.run(ctx, binary, argv); err != nil {
		return nil, err
	}
	if err := g.connect(ctx, state); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		g.Cancelled(ctx)
		g.process.Kill()
	})
	if g.tpm != nil {
		go g.guardTPM()
	}
	return g, nil
}

// starterROM is the path of qboot, a small firmware of QEMU's that starts a given kernel and does nothing else: SeaBIOS sets up
// each disk before that, at 0.3 s of emulation (docs/boot.md). A QEMU that came without it gets "", and SeaBIOS.
func starterROM(binary string) string {
	path := filepath.Join(filepath.Dir(filepath.Dir(binary)), "share", "qemu", "qboot.rom")
	if f, err := os.Open(path); err != nil || f.Close() != nil {
		return ""
	}
	return path
}

// absolute makes all paths of m absolute: QEMU runs in another folder.
func absolute(m vm.Machine) (vm.Machine, error) {
	m.Disks = append([]vm.Disk(nil), m.Disks...)
	paths := []*string{&m.Boot.Kernel, &m.Boot.Initrd, &m.Boot.ROM, &m.Boot.Vars}
	for i := range m.Disks {
		paths = append(paths, &m.Disks[i].Path)
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return m, fmt.Errorf("absolute path: %w", err)
		}
		*p = abs
	}
	return m, nil
}

// prepare makes the logs and the sockets before QEMU runs, so that readers and connections never have to wait for a
// file.
func (g *guest) prepare(ctx context.Context, m vm.Machine, binary string, argv []string) error {
	var err error
	if g.folder, err = os.Open(g.Dir); err != nil {
		return fmt.Errorf("machine folder: %w", err)
	}
	if err := g.Create(); err != nil {
		return err
	}
	text := "# as Belljar ran it:\n" + Quote(append([]string{binary}, argv...)) + "\n# by hand:\n" + g.command + "\n"
	if err := os.WriteFile(filepath.Join(g.Dir, cmdlineFile), []byte(text), 0o644); err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	for i, name := range m.Ports {
		p, err := listen(ctx, g.socket(portSocket(i)))
		if err != nil {
			return fmt.Errorf("port %s: %w", name, err)
		}
		g.ports[name] = p
	}
	if m.Input {
		log, err := g.Append(vm.ConsoleLog)
		if err != nil {
			return err
		}
		if g.input, err = listenInput(ctx, g.socket(inputSocket), log); err != nil {
			return fmt.Errorf("console input: %w", err)
		}
	}
	if m.TPM != "" {
		if g.tpm, err = tpm.Start(ctx, m.TPM, g.Dir, g.socket(tpmSocket)); err != nil {
			return err
		}
	}
	return nil
}

// run starts QEMU under its supervisor.
func (g *guest) run(ctx context.Context, binary string, argv []string) error {
	stderr, err := g.Append(vm.StderrLog)
	if err != nil {
		return fault.New(fault.Host, "start "+g.Name, "%w", err)
	}
	defer stderr.Close()
	// Listen first: QEMU connects as soon as it runs.
	g.monitor, err = listenMonitor(ctx, g.socket(qmpSocket))
	if err != nil {
		return fault.New(fault.Host, "start "+g.Name, "monitor socket: %w", err)
	}
	if err := g.noteConfinement(); err != nil {
		return err
	}
	if err := g.lend(); err != nil {
		return fault.New(fault.Host, "start "+g.Name, "hand the machine's folder to QEMU's user: %w", err)
	}
	g.process, err = supervise.Start(supervise.Command{
		Path: binary, Args: argv, Dir: g.Dir, Env: environment(), Stdout: stderr, Stderr: stderr, Confine: &g.confined.plan,
	})
	if err != nil {
		return fault.New(fault.Host, "start "+g.Name, "%w", err)
	}
	go g.reap()
	return nil
}

// environment is all that QEMU gets to see of the host's environment.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
