package qemu

import (
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
)

// died is the fault of a QEMU that ended for no reason that the guest or Belljar gave.
func (g *guest) died(exit supervise.Exit) error {
	err := fault.New(fault.Host, "run "+g.Name, "QEMU ended on its own: %s", exit)
	if line := g.Tail(vm.StderrLog, 1); line != "" {
		err = fault.New(fault.Host, "run "+g.Name, "QEMU ended on its own: %s: %s", exit, line)
	}
	if exit.Signal == 9 && !exit.Lost {
		err = err.WithRemedy("look into the host's kernel log (dmesg) whether it ran out of memory")
	}
	return g.evidence(err)
}

// evidence adds what each side printed, and how to see it again.
func (g *guest) evidence(err *fault.Error) *fault.Error {
	if g.confined != nil && strings.Contains(g.Tail(vm.StderrLog, vm.TailLines), "ermission denied") {
		err = err.WithEvidence("what QEMU may open", g.confined.given())
	}
	return err.
		WithEvidence("console, last lines", g.Tail(vm.ConsoleLog, vm.TailLines)).
		WithEvidence("QEMU's stderr", g.Tail(vm.StderrLog, vm.TailLines)).
		WithEvidence("run it by hand", g.command)
}
