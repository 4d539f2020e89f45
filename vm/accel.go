package vm

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Key is what a proof depends on: the host since its last boot, the QEMU, the kernel that was booted, and the machine
// that it was booted in.
type Key struct {
	Host   string `json:"host,omitempty"` // names the machines' host, if that is not this one
	BootID string `json:"boot_id"`
	QEMU   string `json:"qemu"`   // version
	Kernel string `json:"kernel"` // digest
	Type   string `json:"type"`   // machine type
	CPU    string `json:"cpu"`    // CPU model
}

// Decision is an accelerator and how it was chosen.
type Decision struct {
	Accel     Accel
	Reason    string // a sentence to say aloud; empty if there is nothing to explain
	Pace      Pace   // how much longer than written things may take under it
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
		proof, known := Recall(dir, key) // of which the figure for TCG counts
		return Decision{Accel: TCG, Pace: PaceOf(TCG, proof), FromCache: known, Proof: proof}, nil
	case Auto, KVM:
	default:
		return Decision{}, fault.New(fault.Usage, "choose accelerator", "%q: want auto, kvm or tcg", want)
	}
	if key.Host == "" {
		if p := look().Judge(); p.Outcome != "" {
			return refuse(want, Decision{Proof: p})
		}
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
	d := Decision{Accel: KVM, Pace: PaceOf(KVM, proof), FromCache: known, Proof: proof}
	if proof.OK() {
		return d, nil
	}
	return refuse(want, d)
}

// refuse is the answer when KVM cannot be had or is not worth having: TCG for auto, a fault for kvm.
func refuse(want Accel, d Decision) (Decision, error) {
	d.Reason = d.Proof.Reason
	if d.FromCache {
		d.Reason += " (found earlier)"
	}
	if want == KVM {
		return Decision{}, fault.New(fault.Host, "choose accelerator", "%s", d.Reason).
			WithRemedy("use --accel auto or --accel tcg; or: %s", d.Proof.Remedy)
	}
	d.Accel, d.Pace = TCG, PaceOf(TCG, d.Proof)
	d.Reason += fmt.Sprintf(": TCG is used instead, and what a spec says of time counts %s times", d.Pace)
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
