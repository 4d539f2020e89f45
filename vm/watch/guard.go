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

// early is which part of the time between two samples passes before the first: a machine that dies young is to leave
// evidence too. Not at once: one that resets itself at power-on is just about to end then, and an order to the monitor
// that meets QEMU's end was seen to keep it from ending.
const early = 10

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
	next := time.After(g.limits.Every / early)
	for {
		select {
		case <-ctx.Done():
			return nil //nolint:nilerr // the end of the watch is no fault of the guest's
		case <-next:
			next = tick.C
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
	news = f.Text != "" && (f.State != g.said.State || g.said.Text == "")
	g.said = f
	return f, news
}

// Doing takes a sample now and says what the processors have done since anything else in the machine went on: how a
// standstill looks from outside. It is empty where that is not known.
func (g *Guard) Doing(ctx context.Context) string {
	p, ok := g.guest.(vm.Prober)
	if !ok {
		return ""
	}
	sample, err := p.Progress(ctx)
	if err != nil {
		return ""
	}
	g.take(sample)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dog.processors(g.dog.last())
}

// blind is for a backend that knows nothing of its machines' progress: only answers tell.
type blind struct{}

func (blind) Progress(context.Context) (vm.Progress, error) { return vm.Progress{}, nil }

// Samples shows the last samples, a line each; those that are the same stand in one.
func (g *Guard) Samples() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for i := 0; i < len(g.last); i++ {
		first := g.last[i]
		for i+1 < len(g.last) && g.last[i+1].Progress == first.Progress {
			i++
		}
		fmt.Fprintf(&b, "%.0f s", first.at.Sub(g.start).Seconds())
		if last := g.last[i]; last != first {
			fmt.Fprintf(&b, " to %.0f s", last.at.Sub(g.start).Seconds())
		}
		fmt.Fprintf(&b, " after power-on: %s\n", describe(first.Progress))
	}
	return b.String()
}

// mute says whether the last sample found nobody to answer for the machine.
func (g *Guard) mute() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.last) > 0 && g.last[len(g.last)-1].Mute
}

// describe puts a sample into words.
func describe(p vm.Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "processors ran %.1f s", p.CPU.Seconds())
	if p.Starved > 0 {
		fmt.Fprintf(&b, " (waited %.1f s for the host)", p.Starved.Seconds())
	}
	fmt.Fprintf(&b, ", read %d KiB, wrote %d KiB, console %d B, ports %d B", p.Read>>10, p.Written>>10, p.Console, p.Ports)
	if p.Resets > 0 {
		fmt.Fprintf(&b, ", %d resets", p.Resets)
	}
	if p.Mute {
		b.WriteString(", the monitor is silent")
	}
	if p.Halted != "" {
		b.WriteString(", halted: " + p.Halted)
	}
	if p.State != "" && p.State != "S" && p.State != "R" {
		b.WriteString(", process state " + p.State)
	}
	return b.String()
}
