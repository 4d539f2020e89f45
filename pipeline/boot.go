package pipeline

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/watch"
)

// bootDeadline is how long a guest may take from power-on until its SSH answers, at the pace of KVM. 4 s were measured
// under TCG on two idle cores, whose pace is 10 or more.
const bootDeadline = 30 * time.Second

// sshPort is the virtio-serial port on which the guest's sshd listens.
const sshPort = "belljar.ssh"

// booted is a guest whose agent answers.
type booted struct {
	*provision.Session
	guest   vm.Guest
	dir     string
	parent  context.Context // the caller's
	ctx     context.Context // ends when the guest does, with the reason as its cause
	stop    context.CancelCauseFunc
	guard   *watch.Guard
	unguard context.CancelFunc         // ends the watch on its progress: what follows is meant to be quiet
	read    chan struct{}              // closed when the console is read to its end
	bad     atomic.Pointer[corruption] // what its kernel found wrong with the root; nil: nothing
	oom     atomic.Pointer[string]     // the line with which its kernel last killed a process for want of memory; nil: it did not
	trail   *trail                     // when it got how far
	from    beginning                  // how it came to life
	cmdline string                     // its kernel's
}

// boot starts a guest from power-on with these disks and brings it to where stages can run.
func (h *house) boot(ctx context.Context, dir string, m vm.Machine, b *bundle, phase Phase, name string) (*booted, error) {
	return h.bootFrom(ctx, dir, m, b, phase, name, beginning{})
}

// bootFrom starts a guest with these disks, from power-on or from a saved state, and brings it to where stages can run.
// While it lives it is watched: a panic and a standstill end what is going on, and are what the user hears of.
func (h *house) bootFrom(ctx context.Context, dir string, m vm.Machine, b *bundle, phase Phase, name string, from beginning,
) (_ *booted, err error) {
	keys, err := provision.NewKeys(rand.Reader)
	if err != nil {
		return nil, err
	}
	if m.Boot.Kernel, err = h.verified(ctx, b.Kernel); err != nil {
		return nil, err
	}
	m.Boot.Cmdline = strings.TrimSpace(initramfs.Cmdline + " belljar.disks=" + serials(m.Disks) + " " + m.Boot.Cmdline)
	m.Ports = []string{sshPort, wakePort}
	m.Boot.Initrd = h.store.Path(b.Initramfs) // of which a guest that goes on from a state has no more use
	if from.state == nil {
		m.Boot.Initrd = filepath.Join(dir, "initrd")
		if err := h.writeInitrd(m.Boot.Initrd, b.Initramfs, keys, from.park); err != nil {
			return nil, err
		}
	}
	if err := h.backend.Preflight(ctx, m); err != nil {
		return nil, err
	}
	trail := newTrail()
	guest, err := h.startGuest(ctx, dir, m, keys, from)
	if err != nil {
		return nil, err
	}
	trail.add(MarkRunning)
	h.confined.note(guest)
	g := &booted{
		guest: guest, dir: dir, parent: ctx, read: make(chan struct{}), trail: trail, cmdline: m.Boot.Cmdline, from: from,
	}
	g.ctx, g.stop = context.WithCancelCause(ctx)
	h.watch(g, phase, name)
	defer func() {
		if err != nil {
			err = g.explain(err)
			g.Close()
		}
	}()

	dial := func(ctx context.Context) (net.Conn, error) { return guest.Dial(ctx, sshPort) }
	g.Session, err = provision.Open(g.ctx, dial, keys, m.Arch, provision.Options{
		Timeout:  h.pace.Of(bootDeadline),
		Progress: func(text string) { h.report(Event{Kind: LogLine, Phase: phase, Name: name, Text: text}) },
		// From the first moment: a guest was seen to stand still with the push of its agent half-way.
		Connected: func(ping func(context.Context) error) {
			trail.add(MarkSSH)
			g.pulse(ping)
		},
	})
	if err != nil {
		return nil, err
	}
	trail.add(MarkAgent)
	return g, nil
}

// came says what came of a boot.
func (g *booted) came() string {
	if g == nil {
		return ""
	}
	took := g.trail.all()[len(g.trail.all())-1].At.Round(10 * time.Millisecond)
	return fmt.Sprintf("the agent answers, %s from %s", took, g.from)
}

// serials names the disks that the guest's init waits for.
func serials(disks []vm.Disk) string {
	var names []string
	for _, d := range disks {
		names = append(names, d.Serial)
	}
	return strings.Join(names, ",")
}

// writeInitrd lays the run's keys behind the initramfs: the kernel unpacks archives one after another. With park the
// guest is told to park after its first session.
func (h *house) writeInitrd(path string, base store.Digest, keys *provision.Keys, park bool) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.New(fault.Host, "write initrd", "%w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := h.store.Open(base)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	var files []initramfs.File
	for _, k := range keys.Files() {
		files = append(files, initramfs.Bytes(k.Name, k.Mode, k.Data))
	}
	if park {
		files = append(files, initramfs.Bytes("park", 0, nil))
	}
	return initramfs.RunFiles(f, files)
}

// Close ends the guest: its agent is asked first, then QEMU.
func (g *booted) Close() error {
	if g.Session != nil && g.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(g.ctx, 10*time.Second)
		_ = g.Poweroff(ctx) // if it does not answer, QEMU is ended below
		cancel()
	}
	if g.Session != nil {
		g.Session.Close()
	}
	err := g.guest.Close()
	g.stop(nil)
	<-g.read
	return err
}

// follow opens a disk to be read while the guest writes to it; nil where the backend keeps it out of reach.
func (g *booted) follow(serial string) func() (provision.Followed, error) {
	f, ok := g.guest.(vm.DiskFollower)
	if !ok {
		return nil
	}
	return func() (provision.Followed, error) { return f.FollowDisk(serial) }
}

// disk opens a disk that the guest has written to, wherever the backend keeps it.
func (g *booted) disk(serial string) provision.Disk {
	return func(ctx context.Context, n int64) (io.ReadCloser, error) {
		r, ok := g.guest.(vm.DiskReader)
		if !ok {
			return nil, fault.New(fault.Host, "read disk "+serial, "this backend cannot read a guest's disks")
		}
		return r.OpenDisk(ctx, serial, n)
	}
}
