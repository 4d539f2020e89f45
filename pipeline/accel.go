package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// decideAccel chooses the accelerator for a guest: KVM only where it has booted this very kernel on this host, and faster
// than TCG did.
func (h *house) decideAccel(ctx context.Context, want vm.Accel, p *plan, b *bundle, run *vm.Run) (vm.Decision, error) {
	version, err := h.backend.Version(ctx, p.guest.Arch)
	if err != nil {
		return vm.Decision{}, err
	}
	bootID, err := vm.HostBootID()
	if err != nil {
		return vm.Decision{}, err
	}
	elsewhere, unseen, err := h.elsewhere(ctx)
	if err != nil {
		return vm.Decision{}, err
	}
	m := machine(p.guest, p.locked)
	key := vm.Key{BootID: bootID, QEMU: version, Kernel: string(b.Kernel), Type: m.Type, CPU: m.CPU}
	wait := vm.TrialWait
	if unseen {
		key.Host, wait = h.provenOn(elsewhere, time.Now()), trialWaitElsewhere
	}
	prove := func(ctx context.Context) (vm.Proof, error) {
		h.note(PhaseAccel, "proving KVM: booting the guest's kernel once under it, and once under TCG")
		return vm.Trial{
			Machine: vm.ProbeMachine(m, h.store.Path(b.Kernel), h.store.Path(b.Proof)),
			Runs:    proofRuns, Done: proofDone, Dir: run.Dir, Unseen: unseen, Wait: wait,
		}.Prove(ctx, h.backend)
	}
	d, err := vm.Decide(ctx, want, prove, filepath.Join(h.Dir, "accel"), key)
	if err != nil {
		return d, err
	}
	h.pace = d.Pace
	switch {
	case want == vm.TCG:
		d.Reason = "asked for"
	case d.Accel == vm.KVM:
		d.Reason = fmt.Sprintf("booted this kernel in %s", d.Proof.KVM.Boot.Round(time.Millisecond))
	case d.FromCache:
		h.report(Event{Kind: Note, Phase: PhaseAccel, Text: d.Reason}) // said aloud once
	default:
		h.report(Event{Kind: Warning, Phase: PhaseAccel, Text: d.Reason})
	}
	return d, nil
}

// trialWaitElsewhere is longer than on this host: the kernel has to get there first, and the daemon takes its time too.
const trialWaitElsewhere = time.Minute

// provenOn names a host that a daemon runs machines on, for as long as what was proven of its KVM holds: a day, for when
// it was last booted nobody tells. Two daemons of one host may not have the same rights there.
func (h *house) provenOn(there vm.Host, now time.Time) string {
	return strings.Join([]string{there.UUID, there.Daemon, there.Version, h.Connect, now.UTC().Format(time.DateOnly)}, " ")
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
