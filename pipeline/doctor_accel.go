package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// checkAccel proves KVM: with the pinned kernel where the store has it, which a build would do as well and is remembered
// for it, else with QEMU's own firmware. Whatever comes of it, the host can build: under TCG.
func (h *house) checkAccel(ctx context.Context, l *specs.Loaded) ([]Check, error) {
	run, err := h.newRun(ctx, "doctor")
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.runs.Remove(run.ID()) }()
	defer func() { _ = run.Finish(vm.Passed, nil) }()

	start := time.Now()
	var proof vm.Proof
	what, remembered := "QEMU's own firmware", false
	if p := h.planWithKernel(l); p != nil {
		what = "the pinned kernel"
		proof, remembered, err = h.proveKernel(ctx, p, run)
	} else {
		proof, err = h.proveFirmware(ctx, l, run)
	}
	if err != nil {
		return []Check{failed("kvm", err)}, ctx.Err()
	}
	found := "found in " + time.Since(start).Round(100*time.Millisecond).String()
	if remembered {
		found = "found earlier"
	}
	where := vm.HostKVM{Unseen: true}.Where()
	if _, unseen, err := h.elsewhere(ctx); err == nil && !unseen {
		where = vm.LookAtKVM().Where()
	}
	return accelChecks(proof, where, what, found), nil
}

// accelChecks puts a proof into words.
func accelChecks(p vm.Proof, where, what, found string) []Check {
	kvm := Check{Name: "kvm", State: CheckOK}
	if p.OK() {
		kvm.Text = fmt.Sprintf("boots %s in %s%s; %s", what, inSeconds(p.KVM.Boot), work(p.KVM), where)
	} else {
		kvm.State = CheckWarn
		kvm.Text = fmt.Sprintf("%s: %s (%s); %s", p.Outcome, p.Reason, found, where)
		kvm.Remedy = p.Remedy + ". Belljar works without: under TCG"
	}
	tcg := Check{Name: "tcg", State: CheckOK}
	pace := vm.PaceOf(vm.TCG, p)
	measured := "as a host without a measurement is taken to be"
	if p.TCG.Boot > 0 {
		measured = fmt.Sprintf("boots %s in %s%s", what, inSeconds(p.TCG.Boot), work(p.TCG))
	}
	tcg.Text = fmt.Sprintf("%s; under it, what a spec says of time counts %s times", measured, pace)
	return []Check{kvm, tcg}
}

// work is the figure of a trial's fixed piece of work, if it did one.
func work(f vm.Figure) string {
	if f.Work == 0 {
		return ""
	}
	return fmt.Sprintf(" and counts to %d in %s (a machine of today, under KVM: %s)",
		initramfs.ProofWork, inSeconds(f.Work), inSeconds(vm.ReferenceWork))
}

func inSeconds(d time.Duration) string {
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// planWithKernel is the spec's plan if the store has its kernel already, else nil.
func (h *house) planWithKernel(l *specs.Loaded) *plan {
	p, err := makePlan(l.Spec.Name, "", "")
	if err != nil {
		return nil
	}
	for _, lp := range p.locked.Packages {
		if lp.Kernel && h.store.Has(store.Digest(lp.SHA256)) {
			return p
		}
	}
	return nil
}

// proveKernel is the proof that a build would make.
func (h *house) proveKernel(ctx context.Context, p *plan, run *vm.Run) (proof vm.Proof, remembered bool, err error) {
	b, err := h.bundle(ctx, p.guest, p.locked)
	if err != nil {
		return proof, false, err
	}
	quiet := *h
	quiet.Report = nil
	d, err := quiet.decideAccel(ctx, vm.Auto, p, b, run)
	return d.Proof, d.FromCache, err
}

// proveFirmware finds gross breakage only: it is for a host whose store is still empty.
func (h *house) proveFirmware(ctx context.Context, l *specs.Loaded, run *vm.Run) (vm.Proof, error) {
	g, err := l.Guest("")
	if err != nil {
		return vm.Proof{}, err
	}
	trial := vm.FirmwareTrial(unlocked(g), run.Dir)
	if _, trial.Unseen, err = h.elsewhere(ctx); err != nil {
		return vm.Proof{}, err
	}
	return trial.Prove(ctx, h.backend)
}
