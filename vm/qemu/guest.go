package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
	"github.com/belljar/belljar/vm/tpm"
)

// guest is a running QEMU.
type guest struct {
	*vm.Life
	vm.Logs
	machine vm.Machine
	folder  *os.File    // the machine's folder: sockets are bound beneath its descriptor, where any path is short enough
	command string      // for a person
	screen  bool        // a display to take pictures of
	hasOS   bool        // a kernel that may heed the power button
	stopped atomic.Bool // for good, by Save: it heeds nothing any more
	grace   time.Duration

	confined *confinement

	process *supervise.Process
	monitor *monitor
	ports   map[string]*port
	input   *input   // of the serial console; nil: it takes none
	tpm     *tpm.TPM // nil: it has none

	mu    sync.Mutex
	heard chan struct{} // closed when the last event is in

	sample vm.Progress // the last one
	vcpus  []int       // thread ids of its processors; nil until QEMU has told them
	times  []times     // theirs, at that sample
}

var (
	_ vm.Guest        = (*guest)(nil)
	_ vm.Explainer    = (*guest)(nil)
	_ vm.Logger       = (*guest)(nil)
	_ vm.ResetCounter = (*guest)(nil)
	_ vm.Ender        = (*guest)(nil)
	_ vm.Confined     = (*guest)(nil)
	_ vm.DiskReader   = (*guest)(nil)
	_ vm.DiskFollower = (*guest)(nil)
	_ vm.Prober       = (*guest)(nil)
	_ vm.Screendumper = (*guest)(nil)
	_ vm.Typist       = (*guest)(nil)
	_ vm.Keyboard     = (*guest)(nil)
	_ vm.Buttons      = (*guest)(nil)
	_ vm.Measured     = (*guest)(nil)
	_ vm.Viewed       = (*guest)(nil)
)

// socket is a path for name in the machine's folder that is never too long for a socket.
func (g *guest) socket(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", g.folder.Fd(), name)
}

// connect waits for QEMU on the monitor, starts listening to its events and lets the machine run: from power-on, or
// from a state that is not nil.
func (g *guest) connect(ctx context.Context, state io.Reader) error {
	var conn net.Conn
	select {
	case c, ok := <-g.monitor.port.conn:
		if !ok {
			return g.notStarted(ctx, net.ErrClosed) // as a rule because QEMU is gone
		}
		conn = c
	case <-g.Gone():
		return g.Wait()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// QEMU may die, and the caller lose patience, in the middle of the handshake: ending the process ends the
	// handshake.
	stop := context.AfterFunc(ctx, g.process.Kill)
	defer stop()
	if err := g.monitor.connect(conn); err != nil {
		return g.notStarted(ctx, err)
	}
	heard := make(chan struct{})
	g.mu.Lock()
	g.heard = heard
	g.mu.Unlock()
	go g.listen(heard)
	if err := g.verify(); err != nil {
		return err
	}
	if state != nil {
		if err := g.receive(ctx, state); err != nil {
			return g.notStarted(ctx, err)
		}
	}
	if err := g.monitor.do(30*time.Second, "cont"); err != nil {
		return g.notStarted(ctx, err)
	}
	return nil
}

// notStarted tells why the machine does not run: the caller gave up, QEMU died, or the monitor failed.
func (g *guest) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-g.Gone():
		return g.died(g.process.Wait())
	case <-time.After(5 * time.Second): // a broken monitor is nearly always a dying QEMU: let it say why
		return g.evidence(fault.New(fault.Host, "start "+g.Name, "monitor: %w", err))
	}
}

// listen keeps each event, in memory and in the events log.
func (g *guest) listen(heard chan struct{}) {
	defer close(heard)
	log, err := g.Append(vm.EventsLog)
	if err == nil { // without it the events are in memory all the same
		defer log.Close()
	}
	for e := range g.monitor.events {
		g.Hear(vm.Event{
			Name: e.Event,
			At:   time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*1000).UTC(),
			Data: e.Data,
		}, log)
	}
}

// reap waits for QEMU's end, hears its last events out and decides what they mean.
func (g *guest) reap() {
	exit := g.process.Wait()
	g.mu.Lock()
	heard := g.heard
	g.mu.Unlock()
	if heard != nil {
		select {
		case <-heard:
		case <-time.After(5 * time.Second):
		}
	}
	g.input.drained()
	g.Decide(func() error { return g.died(exit) }, g.evidence)
	g.monitor.hangUp()
	for _, p := range g.ports {
		p.close()
	}
	g.input.close()
	g.folder.Close()
	g.sweep()
	g.Bury()
}

// sweep removes the sockets, and makes the folder what it was.
func (g *guest) sweep() {
	for _, name := range []string{qmpSocket, inputSocket, tpmSocket, vncSocket} {
		_ = os.Remove(filepath.Join(g.Dir, name))
	}
	for i := range len(g.ports) {
		_ = os.Remove(filepath.Join(g.Dir, portSocket(i)))
	}
	g.takeBack()
}

// abort undoes a Start that went wrong half-way.
func (g *guest) abort() {
	if g.process != nil {
		g.process.Kill()
		<-g.Gone()
		return
	}
	if g.monitor != nil {
		g.monitor.hangUp()
	}
	for _, p := range g.ports {
		p.close()
	}
	g.input.close()
	g.tpm.Close()
	if g.folder != nil {
		g.folder.Close()
	}
	g.sweep()
}

// Dial opens the host's end of a port. QEMU holds the other end from power-on; each port can be dialled once.
func (g *guest) Dial(ctx context.Context, name string) (net.Conn, error) {
	p, ok := g.ports[name]
	if !ok {
		return nil, fault.New(fault.Usage, "dial "+name, "machine %s has no such port", g.Name)
	}
	select {
	case c, ok := <-p.conn:
		if !ok {
			return nil, fault.New(fault.Usage, "dial "+name, "dialled before, or the machine is gone")
		}
		return counted{c, &p.received}, nil
	case <-g.Gone():
		return nil, g.TooLate("dial " + name)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", name, context.Cause(ctx))
	}
}

// CommandLine starts the same machine in a shell, with the console on the terminal.
func (g *guest) CommandLine() string { return g.command }

// OpenDisk reads the disk's file: QEMU writes there through the host's page cache.
func (g *guest) OpenDisk(_ context.Context, serial string, n int64) (io.ReadCloser, error) {
	return g.machine.OpenDisk(serial, n)
}

// FollowDisk opens the disk's file, for the same reason.
func (g *guest) FollowDisk(serial string) (vm.FollowedDisk, error) {
	return g.machine.FollowDisk(serial)
}

// PID is QEMU's process id.
func (g *guest) PID() int { return g.process.PID }

// Close asks the guest to power off (if it has a kernel that could), asks QEMU to quit, kills it; each step waits
// for the grace period. Ended tells which of them it took.
func (g *guest) Close() error {
	ask := func(command string) func() {
		return func() { _ = g.monitor.do(g.grace, command) }
	}
	ways := []vm.Way{{How: vm.EndedQuit, Ask: ask("quit")}}
	if g.hasOS && !g.stopped.Load() {
		ways = append([]vm.Way{{How: vm.EndedPowered, Ask: ask("system_powerdown")}}, ways...)
	}
	g.End(g.grace, g.process.Kill, ways...)
	g.closeTPM()
	return nil
}
