package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
)

// ProofDeadline is how long a proof of KVM may take. Where KVM works, a kernel reaches its init in about a second;
// where it does not, the whole decision must be over within 15 s.
const ProofDeadline = 12 * time.Second

// Proof is what came of trying KVM.
type Proof struct {
	OK     bool          `json:"ok"`
	Reason string        `json:"reason,omitempty"` // why not: a clause, 'QEMU ended …'
	Took   time.Duration `json:"took"`
}

// Key is what a proof depends on: the host since its last boot, the QEMU, the kernel that was booted.
type Key struct {
	BootID string `json:"boot_id"`
	QEMU   string `json:"qemu"`   // version
	Kernel string `json:"kernel"` // digest
}

// Decision is an accelerator and how it was chosen.
type Decision struct {
	Accel     Accel
	Reason    string // a sentence to say aloud; empty if there is nothing to explain
	FromCache bool   // the proof was remembered
	Proof     Proof  // zero if none was needed
}

// Decide chooses the accelerator. Asked for auto it takes KVM only where a proof says that it works, and says why not;
// asked for kvm where it does not work, it is a host fault with the same reason. A proof is made once for each key, and
// remembered in dir.
func Decide(ctx context.Context, want Accel, prove func(context.Context) (Proof, error), dir string, key Key,
) (Decision, error) {
	switch want {
	case TCG:
		return Decision{Accel: TCG}, nil
	case Auto, KVM:
	default:
		return Decision{}, fault.New(fault.Usage, "choose accelerator", "%q: want auto, kvm or tcg", want)
	}
	if reason, remedy := KVMAccess(); reason != "" {
		return refuse(want, Decision{Reason: reason}, remedy)
	}
	proof, known := Recall(dir, key)
	if !known {
		var err error
		if proof, err = prove(ctx); err != nil {
			return Decision{}, fmt.Errorf("prove kvm: %w", err)
		}
		if err := Remember(dir, key, proof); err != nil {
			return Decision{}, err
		}
	}
	d := Decision{Accel: KVM, FromCache: known, Proof: proof}
	if proof.OK {
		return d, nil
	}
	d.Reason = "KVM opens but does not work on this host: " + proof.Reason
	if known {
		d.Reason += " (found earlier, since the host's last boot)"
	}
	return refuse(want, d,
		"use --accel auto or --accel tcg; if this host is a virtual machine, its own host must offer nested "+
			"virtualisation")
}

// refuse is the answer when KVM cannot be had: TCG for auto, a fault for kvm.
func refuse(want Accel, d Decision, remedy string) (Decision, error) {
	if want == KVM {
		return Decision{}, fault.New(fault.Host, "choose accelerator", "%s", d.Reason).WithRemedy("%s", remedy)
	}
	d.Accel = TCG
	d.Reason += ": TCG is used instead, which is 10 to 20 times slower"
	return d, nil
}

// HostBootID names this host since its last boot: random(4), /proc/sys/kernel/random/boot_id.
func HostBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fault.New(fault.Host, "read boot id", "%w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// ProbeMachine is the least machine that proves KVM for machines like base: same type and CPU model, and a kernel whose
// initramfs prints one line and powers off.
func ProbeMachine(base Machine, kernel, initrd string) Machine {
	return Machine{
		Name: "kvm-proof", Arch: base.Arch, Type: base.Type, CPU: base.CPU, CPUs: min(max(base.CPUs, 1), 2),
		Memory: 512 * mib, Clock: base.Clock, Accel: KVM, OnReset: ExitOnReset,
		Boot: Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 quiet panic=-1"},
	}
}

// Prove boots m and waits until line stands on its console: then the accelerator works. A machine that dies, resets or
// stays silent is a proof of the contrary, not an error. The machine is always gone when Prove returns.
func Prove(ctx context.Context, b Backend, m Machine, line, dir string, deadline time.Duration) (Proof, error) {
	return proveOn(ctx, b, m, "console", line, dir, deadline)
}

// quickDeadline: SeaBIOS finds nothing to boot after 0.1 s, under TCG too. Broken KVM was seen to take 3.6 s.
const quickDeadline = 2 * time.Second

// QuickProbe tries KVM with nothing but QEMU's own firmware, SeaBIOS: for when no kernel is at hand. It finds gross
// breakage only; a host that passes may still fail a Prove.
func QuickProbe(ctx context.Context, b Backend, base Machine, dir string) (Proof, error) {
	if reason, _ := KVMAccess(); reason != "" {
		return Proof{Reason: reason}, nil
	}
	m := Machine{
		Name: "kvm-quick-probe", Arch: base.Arch, Type: base.Type, CPU: base.CPU, CPUs: 1,
		Memory: 256 * mib, Clock: base.Clock, Accel: KVM, OnReset: ExitOnReset, DebugCon: true,
	}
	return proveOn(ctx, b, m, "debugcon", "No bootable device", dir, quickDeadline)
}

func proveOn(ctx context.Context, b Backend, m Machine, log, line, dir string, deadline time.Duration) (Proof, error) {
	// What is missing beside KVM is no proof against it.
	if err := b.Preflight(ctx, m); err != nil {
		return Proof{}, err
	}
	start := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, deadline, errDeadline)
	defer cancel()
	failed := func(reason string) (Proof, error) {
		if err := ctx.Err(); err != nil { // the caller gave up: nothing is proven
			return Proof{}, context.Cause(ctx)
		}
		return Proof{Reason: reason, Took: time.Since(start)}, nil
	}
	late := fmt.Sprintf("a machine that should have said %q after a second or two had not after %s", line, deadline)

	g, err := b.Start(limited, m, dir)
	switch {
	case err != nil && limited.Err() != nil:
		return failed(late)
	case fault.KindOf(err) == fault.Host:
		return failed(inner(err))
	case err != nil:
		return Proof{}, err
	}
	// The machine's life hangs on limited: at the deadline it is killed, its log ends, and no grace is given.
	defer func() {
		cancel()
		g.Close()
	}()
	r := g.Console()
	if l, ok := g.(Logger); ok && log != "console" {
		r.Close()
		if r, err = l.Log(log); err != nil {
			return Proof{}, err
		}
	}
	defer r.Close()
	if found(r, line) {
		return Proof{OK: true, Took: time.Since(start)}, nil
	}
	if limited.Err() != nil {
		return failed(late)
	}
	if err := g.Wait(); err != nil {
		return failed(inner(err))
	}
	return failed(fmt.Sprintf("the machine ended without saying %q", line))
}

// inner is a failure without the name of the probe's machine, which says nothing to people.
func inner(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

var errDeadline = errors.New("the proof's deadline passed")
