package pipeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/vm"
)

// walled is a guest that says what confines it.
type walled struct {
	vm.Guest
	measures []vm.Measure
}

func (w walled) Confinement() []vm.Measure { return w.measures }

// What does not hold is said once a run, in its log; the record has what does.
func TestConfinementIsNotedOnce(t *testing.T) {
	var log strings.Builder
	c := &confined{log: &log}
	if c.note(struct{ vm.Guest }{}); c.holds() != nil || log.Len() != 0 {
		t.Errorf("a guest that says nothing: %v, log %q", c.holds(), log.String())
	}
	g := walled{measures: []vm.Measure{
		{Name: "sandbox", Holds: true}, {Name: "cgroup", Text: "no limits: this host has no cgroup v2"}, {Name: "user", Holds: true},
	}}
	c.note(g)
	c.note(g)
	if want := []string{"sandbox", "user"}; !slices.Equal(c.holds(), want) {
		t.Errorf("holds %v, want %v", c.holds(), want)
	}
	const said = "QEMU is not confined by cgroup: no limits: this host has no cgroup v2\n"
	if strings.Count(log.String(), said) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log %q, want %q once", log.String(), said)
	}
}
