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
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// How long a guest may take from power-on until its agent answers. 4 s were measured under TCG on two idle cores;
// a CI runner that is busy with two of them is some ten times slower.
const (
	bootDeadlineKVM = 60 * time.Second
	bootDeadlineTCG = 3 * time.Minute
)

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
	watch   chan struct{}              // closed when the console's watcher is done
	bad     atomic.Pointer[corruption] // what its kernel found wrong with the root; nil: nothing
	trail   *trail                     // when it got how far
	cmdline string                     // its kernel's
}

// boot starts a guest with these disks and brings it to where stages can run.
// While it lives its console is watched: a panic ends what is going on, and is what the user hears of.
func (h *house) boot(ctx context.Context, dir string, m vm.Machine, b *bundle, phase Phase, name string,
) (_ *booted, err error) {
	keys, err := provision.NewKeys(rand.Reader)
	if err != nil {
		return nil, err
	}
	if m.Boot.Kernel, err = h.verified(ctx, b.Kernel); err != nil {
		return nil, err
	}
	m.Boot.Cmdline = strings.TrimSpace(initramfs.Cmdline + " belljar.disks=" + serials(m.Disks) + " " + m.Boot.Cmdline)
	m.Boot.Initrd = filepath.Join(dir, "initrd")
	m.Ports = []string{sshPort}
	if err := h.writeInitrd(m.Boot.Initrd, b.Initramfs, keys); err != nil {
		return nil, err
	}
	if err := h.backend.Preflight(ctx, m); err != nil {
		return nil, err
	}
	trail := newTrail()
	guest, err := h.backend.Start(ctx, m, dir)
	if err != nil {
		return nil, err
	}
	trail.add(MarkRunning)
	g := &booted{guest: guest, dir: dir, parent: ctx, watch: make(chan struct{}), trail: trail, cmdline: m.Boot.Cmdline}
	g.ctx, g.stop = context.WithCancelCause(ctx)
	go g.watchConsole(func(line string) {
		trail.line(line)
		h.report(Event{Kind: LogLine, Phase: phase, Name: name, Text: line})
	})
	defer func() {
		if err != nil {
			err = g.explain(err)
			g.Close()
		}
	}()

	deadline := bootDeadlineKVM
	if m.Accel == vm.TCG {
		deadline = bootDeadlineTCG
	}
	dial := func(ctx context.Context) (net.Conn, error) { return guest.Dial(ctx, sshPort) }
	g.Session, err = provision.Open(g.ctx, dial, keys, m.Arch, provision.Options{
		Timeout:  deadline,
		Placed:   true, // see bundle: it came with the initramfs
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

// How often a guest is asked for a sign of life, and how long none may come. Once in some forty emulated guests was
// seen to stand still for ever with nothing on its console: its processor slept, its timer ticked, and what the host had
// sent over virtio-serial lay there unread. A busy one answers within seconds.
const (
	pulseEvery = 3 * time.Second
	pulseLost  = 90 * time.Second
)

// pulse ends what is going on in a guest that hangs. The questions also wake one that has missed an interrupt.
func (g *booted) pulse(ping func(context.Context) error) {
	lost := fault.New(fault.Guest, "guest", "it hangs: no answer to SSH for %s", pulseLost)
	for g.ctx.Err() == nil {
		ctx, cancel := context.WithTimeoutCause(g.ctx, pulseLost, lost)
		err := ping(ctx)
		cancel()
		if errors.Is(err, lost) {
			g.stop(lost)
			return
		}
		if err != nil {
			return // the connection broke: whoever uses it says so
		}
		select {
		case <-g.ctx.Done():
		case <-time.After(pulseEvery):
		}
	}
}

// serials names the disks that the guest's init waits for.
func serials(disks []vm.Disk) string {
	var names []string
	for _, d := range disks {
		names = append(names, d.Serial)
	}
	return strings.Join(names, ",")
}

// writeInitrd lays the run's keys behind the initramfs: the kernel unpacks archives one after another.
func (h *house) writeInitrd(path string, base store.Digest, keys *provision.Keys) (err error) {
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
	return initramfs.RunFiles(f, files)
}

// watchConsole reads the console to its end and cancels the guest's context when it shows trouble, or ends.
func (g *booted) watchConsole(line func(string)) {
	defer close(g.watch)
	r := g.guest.Console()
	defer r.Close()
	trouble := ""
	err := console.Lines(g.ctx, r, func(l string) {
		line(l)
		if g.bad.Load() == nil && corruptBlock.MatchString(l) {
			bad := &corruption{l}
			g.bad.Store(bad)
			g.stop(bad)
		}
		if trouble == "" && inTrouble.MatchString(l) {
			trouble = l
			// The lines that follow a panic say where it was: leave the kernel a moment to print them.
			time.AfterFunc(500*time.Millisecond, func() {
				g.stop(fault.New(fault.Guest, "guest", "its console says: %s", l))
			})
		}
	})
	switch {
	case trouble != "":
		g.stop(fault.New(fault.Guest, "guest", "its console says: %s", trouble)) // there is no more to wait for
	case err == nil:
		g.stop(gone(g.guest))
	}
}

// gone says why the machine ended: QEMU's own death is the host's fault.
func gone(g vm.Guest) error {
	if err := g.Wait(); err != nil {
		return err
	}
	return fault.New(fault.Guest, "guest", "it went away")
}

// inTrouble are the lines after which nothing good comes: the kernel's or Belljar's own init's last words. Stalls and
// lockups are left out: on a busy host an emulated guest says so of itself, and goes on.
var inTrouble = regexp.MustCompile(`Kernel panic - not syncing|\bOops: |\bBUG: (unable|kernel)|belljar: FATAL`)

// explain replaces an error that is only a consequence by its cause, and adds what the guest's side printed.
func (g *booted) explain(err error) error {
	kind := fault.KindOf(err)
	if kind != fault.Guest && kind != fault.Host && kind != fault.Unknown {
		return err // the build's own, whatever became of the guest since
	}
	g.settle()
	if g.parent.Err() != nil {
		return cause(g.parent, err)
	}
	err = cause(g.ctx, err)
	kind = fault.KindOf(err)
	if kind == fault.Unknown {
		kind = fault.Guest
	}
	e := fault.New(kind, filepath.Base(g.dir), "%w", err).
		WithEvidence("console", tailOf(filepath.Join(g.dir, "console.log"), 20)).
		WithEvidence("QEMU's stderr", tailOf(filepath.Join(g.dir, "stderr.log"), 20))
	if x, ok := g.guest.(vm.Explainer); ok {
		return e.WithEvidence("the same machine by hand", x.CommandLine())
	}
	return e
}

// settle waits a moment for what the console has to say: a panic breaks the connection before its line has been read.
func (g *booted) settle() {
	select {
	case <-g.ctx.Done():
	case <-time.After(time.Second):
	}
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
	<-g.watch
	return err
}

// tailOf is the last n lines of a log, without control characters; empty if there is no such file.
func tailOf(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = f.Seek(-64<<10, io.SeekEnd) // a shorter tail is no reason to show none
	}
	var lines []string
	_ = console.Lines(context.Background(), f, func(l string) { lines = append(lines, l) })
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
