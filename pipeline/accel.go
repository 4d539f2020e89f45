package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// decideAccel chooses the accelerator for a guest: KVM only where it has booted this very kernel on this host.
func (h *house) decideAccel(ctx context.Context, want vm.Accel, p *plan, b *bundle, run *vm.Run) (vm.Decision, error) {
	if want == vm.TCG {
		return vm.Decision{Accel: vm.TCG, Reason: "asked for"}, nil
	}
	version, err := h.backend.Version(ctx, p.guest.Arch)
	if err != nil {
		return vm.Decision{}, err
	}
	bootID, err := vm.HostBootID()
	if err != nil {
		return vm.Decision{}, err
	}
	key := vm.Key{BootID: bootID, QEMU: version, Kernel: string(b.Kernel)}
	prove := func(ctx context.Context) (vm.Proof, error) {
		dir, err := run.Dir("kvm-proof")
		if err != nil {
			return vm.Proof{}, err
		}
		h.note(PhaseAccel, "proving KVM: booting the guest's kernel under it once")
		m := vm.ProbeMachine(machine(p.guest, p.locked), h.store.Path(b.Kernel), h.store.Path(b.Proof))
		return vm.Prove(ctx, h.backend, m, proofLine, dir, vm.ProofDeadline)
	}
	d, err := vm.Decide(ctx, want, prove, filepath.Join(h.Dir, "accel"), key)
	if err != nil {
		return d, err
	}
	if d.Accel == vm.KVM {
		d.Reason = fmt.Sprintf("booted this kernel in %s", d.Proof.Took.Round(time.Millisecond))
	} else {
		kind := Warning
		if d.FromCache {
			kind = Note // said aloud once
		}
		h.report(Event{Kind: kind, Phase: PhaseAccel, Text: d.Reason})
	}
	return d, nil
}

// machine is the guest's machine as spec and lock fix it, without disks.
func machine(g *specs.Guest, lg *specs.LockedGuest) vm.Machine {
	return vm.Machine{
		Name: "guest", Arch: lg.Arch, Type: lg.Machine, CPU: lg.CPU, CPUs: g.CPUs, Memory: int64(g.Memory),
		Clock: lg.Clock, Entropy: true, OnReset: vm.ExitOnReset,
	}
}

// verified is an object's path for another program, after all its bytes were checked.
func (h *house) verified(ctx context.Context, d store.Digest) (string, error) {
	return h.store.Path(d), h.store.Verify(ctx, d)
}
