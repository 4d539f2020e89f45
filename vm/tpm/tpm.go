// Package tpm knows how to give a machine a fresh emulated TPM (swtpm), to hear what is measured into it, and to read its
// PCRs.
//
// It stands between QEMU and swtpm: QEMU connects to a socket of this package's, which passes on what is said on the
// control channel and on the data channel. Two things follow that swtpm alone cannot give, because it talks to one
// client at a time and forgets its PCRs when QEMU ends it: PCRs can be read while the machine runs and after it has
// powered itself off, and each extension is seen, in order.
//
// It refuses to know what the measurements should be.
package tpm

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/confine"
	"github.com/belljar/belljar/vm/supervise"
)

// The names of what lies in a TPM's folder, and of its log in the folder above.
const (
	stateDir   = "tpm"
	ctrlSocket = "ctrl.sock"
	logFile    = "swtpm.log"
)

// remedyInstall is said wherever swtpm is missing.
const remedyInstall = "install swtpm: apt-get install swtpm"

// Find is the path of swtpm. The error, of kind Host, has its remedy.
func Find() (string, error) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return "", fault.New(fault.Host, "find swtpm", "swtpm, which emulates TPMs, is not installed").WithRemedy(remedyInstall)
	}
	return filepath.Abs(path)
}

// Args is swtpm's argument list (swtpm(8)), without the program's name. It runs in its state's folder, so that no path is
// too long for a socket. It is told to start the TPM by QEMU, at each power-on and reset.
func Args(version vm.TPM) []string {
	args := []string{"socket", "--tpmstate", "dir=.", "--ctrl", "type=unixio,path=" + ctrlSocket}
	if version == vm.TPM20 {
		args = append(args, "--tpm2")
	}
	return args
}

// TPM is a running swtpm with QEMU's way to it.
type TPM struct {
	version vm.TPM
	dir     string // the machine's folder
	process *supervise.Process
	user    *confine.User
	log     *os.File

	socket net.Listener  // where QEMU connects
	ctrl   *net.UnixConn // to swtpm

	mu       sync.Mutex // held for the length of a command
	data     net.Conn   // to swtpm; nil until QEMU has opened its data channel
	extended []vm.Extension
	once     sync.Once
}

// Start starts a TPM as new as from its factory, whose state lies in dir, a machine's folder, until Close. QEMU is to
// connect to the Unix socket at the path listen. The TPM lives no longer than this process.
func Start(ctx context.Context, version vm.TPM, dir, listen string) (_ *TPM, err error) {
	binary, err := Find()
	if err != nil {
		return nil, err
	}
	t := &TPM{version: version, dir: dir}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	if t.socket, err = new(net.ListenConfig).Listen(ctx, "unix", listen); err != nil {
		return nil, fault.New(fault.Host, "start swtpm", "socket for QEMU: %w", err)
	}
	if err := t.run(binary); err != nil {
		return nil, fault.New(fault.Host, "start swtpm", "%w", err)
	}
	if err := t.connect(ctx); err != nil {
		return nil, err
	}
	go t.serve()
	return t, nil
}

// run starts swtpm in a folder that nobody has used before.
func (t *TPM) run(binary string) (err error) {
	state := filepath.Join(t.dir, stateDir)
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	if t.user, err = confine.TakeUser(); err == nil {
		if err := os.Chown(state, t.user.ID, t.user.ID); err != nil {
			return err
		}
	}
	if t.log, err = os.OpenFile(filepath.Join(t.dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return err
	}
	plan := plan(binary, state, t.user)
	t.process, err = supervise.Start(supervise.Command{
		Path: binary, Args: Args(t.version), Dir: state, Env: []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")},
		Stdout: t.log, Stderr: t.log, Confine: &plan,
	})
	return err
}

// plan is what swtpm may do to the host: keep its state, and nothing else. Beside that, it has a seccomp filter of its
// own.
func plan(binary, state string, user *confine.User) confine.Plan {
	p := confine.Plan{Network: true, Threads: 64, Paths: []confine.Path{
		{Path: binary, Access: confine.Execute},
		{Path: "/dev/null", Access: confine.Write},
		{Path: "/dev/urandom", Access: confine.Read},
		{Path: "/etc/ssl/openssl.cnf", Access: confine.Read},
		{Path: state, Access: confine.Folder},
	}}
	// Execute: the dynamic loader is one of them.
	for _, lib := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store"} {
		p.Paths = append(p.Paths, confine.Path{Path: lib, Access: confine.Execute})
	}
	p.Paths = append(p.Paths, confine.Path{Path: "/etc/ld.so.cache", Access: confine.Read})
	if user != nil {
		p.UID = user.ID
	}
	return p
}

// startLimit is how long swtpm may take to listen: it makes a seed first. 20 ms were seen.
const startLimit = 20 * time.Second

// connect waits until swtpm listens on its control channel. That its socket is there is not enough: swtpm binds it
// before it listens.
func (t *TPM) connect(ctx context.Context) error {
	folder, err := os.Open(filepath.Join(t.dir, stateDir))
	if err != nil {
		return fault.New(fault.Host, "start swtpm", "%w", err)
	}
	defer folder.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), ctrlSocket) // short enough for a socket
	deadline := time.After(startLimit)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			t.ctrl = conn
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-t.process.Done():
			return t.Fault()
		case <-deadline:
			return t.evidence(fault.New(fault.Host, "start swtpm", "it does not listen after %s: %w", startLimit, err))
		case <-ctx.Done():
		}
	}
}

// Done is closed when swtpm is gone.
func (t *TPM) Done() <-chan struct{} { return t.process.Done() }

// PID is swtpm's process id.
func (t *TPM) PID() int { return t.process.PID }

// Fault says how swtpm ended, with what it said. It waits for that end.
func (t *TPM) Fault() error {
	err := fault.New(fault.Host, "run swtpm", "swtpm, the machine's TPM, ended on its own: %s", t.process.Wait())
	return t.evidence(err.WithRemedy("see what it said; swtpm(8) tells its options, dmesg whether the host killed it"))
}

func (t *TPM) evidence(err *fault.Error) *fault.Error {
	text, _ := os.ReadFile(filepath.Join(t.dir, logFile)) // evidence: what there is will do
	return err.WithEvidence("swtpm's log", strings.TrimSpace(string(text[max(0, len(text)-4096):])))
}

// Close ends the TPM and throws its state away. It may be called more than once, and on a TPM of which only a part was
// started.
func (t *TPM) Close() {
	if t == nil {
		return
	}
	t.once.Do(func() {
		if t.socket != nil {
			t.socket.Close()
		}
		if t.process != nil {
			t.process.Kill()
			<-t.process.Done()
		}
		if t.ctrl != nil {
			t.ctrl.Close()
		}
		if t.log != nil {
			t.log.Close()
		}
		_ = os.RemoveAll(filepath.Join(t.dir, stateDir)) // else it goes with the run's folder
		if t.user != nil {
			t.user.Release()
		}
	})
}
