package watch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/vm"
)

// Guard watches a running guest. Its methods are safe for concurrent use.
type Guard struct {
	guest  vm.Guest
	limits Limits
	start  time.Time

	mu   sync.Mutex
	dog  *Watchdog
	last []moment // the newest samples
	said Finding
}

// kept is how many samples a Guard shows as evidence.
const kept = 5

// NewGuard is a guard for a guest that was started just now.
func NewGuard(g vm.Guest, l Limits) *Guard {
	now := time.Now()
	return &Guard{guest: g, limits: l, start: now, dog: New(l, now)}
}

// Answered notes that something in the guest answered.
func (g *Guard) Answered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dog.Answered(time.Now())
}

// Complained notes a console line in which the guest's kernel doubts that it gets on.
func (g *Guard) Complained(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dog.Complained(line)
}

// Watch takes samples until the guest is beyond hope, and says why, or until it is gone or ctx ends: nil. What is merely
// worth knowing, it says to note, once for each time that it begins.
func (g *Guard) Watch(ctx context.Context, note func(string)) error {
	p, ok := g.guest.(vm.Prober)
	if !ok {
		p = blind{}
	}
	tick := time.NewTicker(g.limits.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil //nolint:nilerr // the end of the watch is no fault of the guest's
		case <-tick.C:
		}
		sample, err := p.Progress(ctx)
		if err != nil {
			return nil //nolint:nilerr // it is gone: Wait says why
		}
		f, news := g.take(sample)
		if f.Fault != nil {
			return f.Fault
		}
		if news {
			note(f.Text)
		}
	}
}

// take judges a sample; news says that people should hear of it.
func (g *Guard) take(p vm.Progress) (f Finding, news bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.last = append(g.last, moment{now, p}); len(g.last) > kept {
		g.last = g.last[1:]
	}
	f = g.dog.Sample(now, p)
	news = f.Text != "" && f.State != g.said.State
	g.said = f
	return f, news
}

// blind is for a backend that knows nothing of its machines' progress: only answers tell.
type blind struct{}

func (blind) Progress(context.Context) (vm.Progress, error) { return vm.Progress{}, nil }

// Evidence shows the last samples, a line each.
func (g *Guard) Evidence() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for _, m := range g.last {
		fmt.Fprintf(&b, "%4.0f s: processors ran %.1f s", m.at.Sub(g.start).Seconds(), m.CPU.Seconds())
		if m.Starved > 0 {
			fmt.Fprintf(&b, " (waited %.1f s for the host)", m.Starved.Seconds())
		}
		fmt.Fprintf(&b, ", read %d KiB, wrote %d KiB, console %d B, ports %d B", m.Read>>10, m.Written>>10, m.Console, m.Ports)
		if m.Resets > 0 {
			fmt.Fprintf(&b, ", %d resets", m.Resets)
		}
		for _, odd := range []struct {
			is   bool
			text string
		}{
			{m.Mute, "QEMU's monitor is silent"},
			{m.Halted != "", "halted: " + m.Halted},
			{m.State != "" && m.State != "S" && m.State != "R", "process state " + m.State},
		} {
			if odd.is {
				b.WriteString(", " + odd.text)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The titles of the evidence that every failure of a machine carries.
const (
	Console  = "console, last lines"
	Stderr   = "QEMU's stderr"
	Progress = "its progress"
	Events   = "QEMU's events"
	Command  = "command line"
	Screen   = "screen"
)
