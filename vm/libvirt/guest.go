package libvirt

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// guest is a running domain.
type guest struct {
	*vm.Life
	vm.Logs
	xml     string
	command string // for a person
	screen  bool   // it has one
	hasOS   bool   // a kernel that may heed the power button
	grace   time.Duration

	link    *link
	domain  libvirt.Domain
	volumes *volumes
	copies  sync.WaitGroup // the consoles that are still copied into files

	mu    sync.Mutex
	ports map[string]*stream // those that were not dialled yet
	open  []*stream          // all others

	lines  []*stream          // all ports
	sample vm.Progress        // the last one
	asked  <-chan vm.Progress // where an answer is waited for; nil if none is

	over    chan struct{} // closed when the last event is in; then the next three stand
	stopped bool
	lost    bool
	detail  libvirt.DomainEventStoppedDetailType

	cleaned sync.Once
}

var (
	_ vm.Guest        = (*guest)(nil)
	_ vm.Explainer    = (*guest)(nil)
	_ vm.Logger       = (*guest)(nil)
	_ vm.DiskReader   = (*guest)(nil)
	_ vm.ResetCounter = (*guest)(nil)
	_ vm.Prober       = (*guest)(nil)
	_ vm.Screendumper = (*guest)(nil)
	_ vm.Ender        = (*guest)(nil)
)

// keep copies a console into a log.
func (g *guest) keep(s *stream, name string) error {
	f, err := g.Append(name)
	if err != nil {
		return err
	}
	g.open = append(g.open, s)
	g.copies.Go(func() {
		defer f.Close()
		_, _ = io.Copy(f, s) // libvirtd ends the stream when QEMU closes its end: why, the events tell
	})
	return nil
}

// watch ends the guest with its context, and decides when the domain is gone.
func (g *guest) watch(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		g.Cancelled(ctx)
		g.destroy()
	})
	go func() {
		<-g.over
		g.drain()
		g.Decide(g.died, g.evidence)
		g.Bury()
		if !stop() { // nobody may call Close after this
			g.clean()
		}
	}()
}

// drain lets the consoles' last bytes arrive, then closes them. Ports that somebody holds are theirs to close.
func (g *guest) drain() {
	done := make(chan struct{})
	go func() {
		g.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	g.hangUpStreams()
	<-done
}

func (g *guest) hangUpStreams() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.ports {
		s.Close()
	}
	for _, s := range g.open {
		s.Close()
	}
	clear(g.ports)
}

// destroy kills QEMU. Where libvirtd does not answer, the broken connection is its order to do so.
func (g *guest) destroy() {
	if err := within(patience, func() error { return g.link.DomainDestroy(g.domain) }); err != nil && !g.IsGone() &&
		codeOf(err) == 0 {
		g.link.hangUp()
	}
}

// abort undoes a Start that went wrong half-way.
func (g *guest) abort() {
	if g.domain.Name != "" && g.link.alive() {
		g.destroy()
	}
	g.hangUpStreams()
	g.copies.Wait()
	g.clean()
}

// clean deletes the volumes and hangs up. Where the connection broke, another one is made for it; where that fails too,
// what is left waits for the next Sweep.
func (g *guest) clean() {
	g.cleaned.Do(func() {
		defer g.link.hangUp()
		if g.volumes == nil {
			return
		}
		l := g.link
		if !l.alive() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			fresh, err := g.link.target.connect(ctx)
			if err != nil {
				return
			}
			defer fresh.hangUp()
			if g.domain.Name != "" { // libvirtd was started anew: it does not know whose the domain was
				_ = within(patience, func() error { return fresh.DomainDestroy(g.domain) })
			}
			l = fresh
		}
		_ = g.volumes.remove(l)
	})
}

// Dial opens the host's end of a port, over libvirt's stream. Each port can be dialled once.
func (g *guest) Dial(ctx context.Context, name string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial %s: %w", name, context.Cause(ctx))
	}
	if g.IsGone() {
		return nil, g.TooLate("dial " + name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.ports[name]
	if !ok {
		return nil, fault.New(fault.Usage, "dial "+name, "machine %s has no such port, or it was dialled before", g.Name)
	}
	delete(g.ports, name)
	g.open = append(g.open, s)
	return s, nil
}

// Log reads one of the logs. What QEMU writes to stderr lies in a file of libvirt's host that libvirt does not hand out, but
// for the error when QEMU does not start: the log of that name stays empty.
func (g *guest) Log(name string) (io.ReadCloser, error) { return g.Logs.Log(name) }

// OpenDisk reads the first n bytes of a writable disk, over libvirt's stream.
func (g *guest) OpenDisk(ctx context.Context, serial string, n int64) (io.ReadCloser, error) {
	return g.volumes.read(ctx, serial, n)
}

// CommandLine creates the same domain in a shell, for as long as its volumes are there.
func (g *guest) CommandLine() string { return g.command }

// Close asks the guest to power off (if it has a kernel that could), asks QEMU to quit, kills it; each step waits for
// the grace period. Ended tells which of them it took. Then it deletes the machine's volumes.
func (g *guest) Close() error {
	ask := func(call func() error) func() {
		return func() { _ = within(g.grace, call) }
	}
	ways := []vm.Way{{How: vm.EndedQuit, Ask: ask(func() error {
		return g.link.DomainDestroyFlags(g.domain, libvirt.DomainDestroyGraceful)
	})}}
	if g.hasOS {
		ways = append([]vm.Way{{How: vm.EndedPowered, Ask: ask(func() error {
			return g.link.DomainShutdownFlags(g.domain, libvirt.DomainShutdownAcpiPowerBtn)
		})}}, ways...)
	}
	g.End(g.grace, g.destroy, ways...)
	g.clean()
	return nil
}
