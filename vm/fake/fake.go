// Package fake is a vm.Backend without virtual machines: what a guest says and how it ends is given as data. Tests of
// what works with guests use it; the conformance suite in vmtest keeps it honest.
package fake

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// End is how a fake guest ends when its script is through.
type End int

// The ends.
const (
	PowersOff End = iota
	Panics
	Resets
	Stays // until it is closed
)

// Script is a guest as data.
type Script struct {
	Preflight error                     // what Preflight answers
	Start     error                     // what Start answers
	Lines     []Line                    // what comes on the serial console
	End       End                       //
	Ports     map[string]func(net.Conn) // the guest's end of each port; a port without one is read and ignored
	Progress  []vm.Progress             // what each sample shows, the last one again and again; none: nothing is known
	Logs      map[string]string         // further logs, whole: debugcon, stderr
}

// Line is a piece of console output after a pause.
type Line struct {
	After time.Duration
	Text  string // with its line end
}

// Say is a script's lines without pauses.
func Say(lines ...string) []Line {
	all := make([]Line, len(lines))
	for i, l := range lines {
		all[i] = Line{Text: l + "\n"}
	}
	return all
}

// Backend answers each machine with the script that Play gives for it.
type Backend struct {
	Play func(m vm.Machine) Script

	mu      sync.Mutex
	started []vm.Machine
}

var _ vm.Backend = (*Backend)(nil)

// Started lists the machines that were started, in order.
func (b *Backend) Started() []vm.Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]vm.Machine(nil), b.started...)
}

// Preflight validates the machine, as a real backend does.
func (b *Backend) Preflight(_ context.Context, m vm.Machine) error {
	if err := m.Validate(); err != nil {
		return fault.New(fault.Usage, "preflight "+m.Name, "%w", err)
	}
	return b.Play(m).Preflight
}

// Start plays the machine's script.
func (b *Backend) Start(ctx context.Context, m vm.Machine, dir string) (vm.Guest, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := m.Validate(); err != nil {
		return nil, fault.New(fault.Usage, "start "+m.Name, "%w", err)
	}
	s := b.Play(m)
	if s.Start != nil {
		return nil, s.Start
	}
	console, err := os.Create(filepath.Join(dir, vm.ConsoleLog))
	if err != nil {
		return nil, fault.New(fault.Host, "start "+m.Name, "%w", err)
	}
	for name, text := range s.Logs {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), []byte(text), 0o644); err != nil {
			console.Close()
			return nil, fault.New(fault.Host, "start "+m.Name, "%w", err)
		}
	}
	g := &guest{
		name: m.Name, machine: m, dir: dir, script: s, console: console,
		ports: map[string]net.Conn{}, stop: make(chan struct{}), gone: make(chan struct{}),
	}
	for _, p := range m.Ports {
		host, inside := net.Pipe()
		g.ports[p] = host
		g.inside = append(g.inside, inside)
		serve := s.Ports[p]
		if serve == nil {
			serve = func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
		}
		go serve(inside)
	}
	b.mu.Lock()
	b.started = append(b.started, m)
	b.mu.Unlock()
	context.AfterFunc(ctx, func() { g.end(fmt.Errorf("run %s: %w", m.Name, context.Cause(ctx))) })
	go g.play()
	return g, nil
}

type guest struct {
	name    string
	machine vm.Machine
	dir     string
	script  Script
	console *os.File

	mu     sync.Mutex
	ports  map[string]net.Conn // not yet dialled
	inside []net.Conn
	taken  int  // samples
	known  bool // the verdict stands
	result error

	stop chan struct{} // closed when the verdict stands
	gone chan struct{} // closed when the guest has said its last
}

// play says the lines, then ends as the script has it.
func (g *guest) play() {
	defer close(g.gone)
	defer g.console.Close()
	defer g.hangUp()
	for _, l := range g.script.Lines {
		if l.After > 0 {
			select {
			case <-g.stop:
				return
			case <-time.After(l.After):
			}
		}
		_, _ = g.console.WriteString(l.Text)
	}
	switch g.script.End {
	case PowersOff:
		g.end(nil)
	case Panics:
		g.end(g.fault(fault.Guest, "the guest's kernel panicked"))
	case Resets:
		g.end(g.fault(fault.Guest, "the guest reset the machine instead of powering it off"))
	case Stays:
	}
	<-g.stop
}

func (g *guest) fault(kind fault.Kind, what string) error {
	said, _ := os.ReadFile(filepath.Join(g.dir, vm.ConsoleLog))
	return fault.New(kind, "run "+g.name, "%s", what).WithEvidence("console, last lines", string(said))
}

// end fixes the verdict; the first one counts.
func (g *guest) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known {
		return
	}
	g.known, g.result = true, err
	close(g.stop)
}

func (g *guest) hangUp() {
	for _, c := range g.inside {
		c.Close()
	}
}

// Kill ends the guest as if its process had been killed.
func (g *guest) Kill() { g.end(g.fault(fault.Host, "the fake was killed")) }

// Killer is what a fake guest is beside a vm.Guest.
type Killer interface{ Kill() }

func (g *guest) Dial(_ context.Context, port string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.ports[port]
	if !ok {
		return nil, fault.New(fault.Usage, "dial "+port, "machine %s has no such port", g.name)
	}
	if c == nil {
		return nil, fault.New(fault.Usage, "dial "+port, "dialled before")
	}
	g.ports[port] = nil
	return c, nil
}

func (g *guest) Console() io.ReadCloser {
	r, err := g.Log("console")
	if err != nil {
		panic(err) // the file was made by Start
	}
	return r
}

func (g *guest) Log(name string) (io.ReadCloser, error) {
	if _, ok := g.script.Logs[name]; !ok && name != "console" {
		return nil, fault.New(fault.Usage, "log "+name, "no such log")
	}
	return vm.Follow(filepath.Join(g.dir, name+".log"), g.gone)
}

func (g *guest) OpenDisk(_ context.Context, serial string, n int64) (io.ReadCloser, error) {
	return g.machine.OpenDisk(serial, n)
}

func (g *guest) FollowDisk(serial string) (vm.FollowedDisk, error) {
	return g.machine.FollowDisk(serial)
}

func (g *guest) Wait() error {
	<-g.gone
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.result
}

func (g *guest) Close() error {
	g.end(nil)
	<-g.gone
	return nil
}

// Progress plays the script's next sample; what the console has said is counted.
func (g *guest) Progress(context.Context) (vm.Progress, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known {
		return vm.Progress{}, fault.New(fault.Guest, "progress of "+g.name, "the machine is gone")
	}
	var p vm.Progress
	if n := len(g.script.Progress); n > 0 {
		p = g.script.Progress[min(g.taken, n-1)]
		g.taken++
	}
	if said, err := os.Stat(filepath.Join(g.dir, vm.ConsoleLog)); err == nil {
		p.Console = said.Size()
	}
	return p, nil
}

func (g *guest) CommandLine() string { return "fake " + g.name }
