package qemu

import (
	"context"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// guardTPM ends a machine whose TPM died: its firmware would wait for an answer that never comes, or boot on and measure
// into nothing, and neither is the firmware's fault.
func (g *guest) guardTPM() {
	select {
	case <-g.Gone():
	case <-g.tpm.Done():
		g.Blame(g.tpm.Fault())
		g.process.Kill()
	}
}

// closeTPM ends the TPM once the machine is gone, and no sooner: QEMU speaks to it to the end.
func (g *guest) closeTPM() {
	<-g.Gone()
	g.tpm.Close()
}

// PCRs reads the TPM's registers, between two commands of the machine's own.
func (g *guest) PCRs(ctx context.Context, bank string) (map[int][]byte, error) {
	if g.tpm == nil {
		return nil, fault.New(fault.Usage, "read PCRs of "+g.Name, "the machine has no TPM")
	}
	return g.tpm.PCRs(ctx, bank)
}

// Extensions are what the machine measured into its TPM.
func (g *guest) Extensions() []vm.Extension {
	if g.tpm == nil {
		return nil
	}
	return g.tpm.Extensions()
}
