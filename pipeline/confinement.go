package pipeline

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

// checkConfinement starts a machine, looks what confines its QEMU, and ends it: what holds is found out, not guessed.
func (h *house) checkConfinement(ctx context.Context, l *specs.Loaded) ([]Check, error) {
	const name = "confinement"
	spec, err := l.Guest("")
	if err != nil {
		return nil, err
	}
	run, err := h.newRun(ctx, "doctor")
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.runs.Remove(run.ID()) }()
	defer func() { _ = run.Finish(vm.Passed, nil) }()
	dir, err := run.Dir(name)
	if err != nil {
		return nil, err
	}
	m := unlocked(spec)
	m.Name, m.Accel, m.Memory, m.CPUs = name, vm.TCG, 64<<20, 1
	g, err := h.backend.Start(ctx, m, dir)
	if err != nil {
		return []Check{failed(name, err)}, nil
	}
	defer g.Close()
	measures := confinementOf(g)
	if measures == nil {
		return []Check{{Name: name, State: CheckOK, Text: "is the backend's own affair"}}, nil
	}
	var all []Check
	for _, m := range measures {
		c := Check{Name: m.Name, State: CheckOK, Text: m.Text}
		if !m.Holds {
			c.State, c.Remedy = CheckWarn, m.Remedy
		}
		all = append(all, c)
	}
	return all, nil
}

// confinementOf is what confines a guest's program, as far as its backend says.
func confinementOf(g vm.Guest) []vm.Measure {
	if c, ok := g.(vm.Confined); ok {
		return c.Confinement()
	}
	return nil
}

// confined is what a run knows of how its guests are confined.
type confined struct {
	log io.Writer // the run's; nil: nobody is told

	mu    sync.Mutex
	known []vm.Measure
}

// note says in the run's log what does not hold around a guest's program, once for all guests of the run.
func (c *confined) note(g vm.Guest) {
	measures := confinementOf(g)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != nil || measures == nil {
		return
	}
	c.known = measures
	for _, m := range measures {
		if !m.Holds && c.log != nil {
			fmt.Fprintf(c.log, "%s QEMU is not confined by %s: %s\n", time.Now().UTC().Format(time.RFC3339), m.Name, m.Text)
		}
	}
}

// holds names what is in force.
func (c *confined) holds() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, m := range c.known {
		if m.Holds {
			names = append(names, m.Name)
		}
	}
	return names
}
