package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"time"
)

// Outcome is what came of asking a host whether its KVM works.
type Outcome string

// The outcomes, from the first thing that can be wrong to the last.
const (
	NoDevice         Outcome = "no device"
	NoPermission     Outcome = "no permission"
	NoVirtualisation Outcome = "no virtualisation" // the device is there and makes no machine
	Refused          Outcome = "refused"           // QEMU does not start such a machine under KVM
	Hangs            Outcome = "hangs"             // the machine starts and comes to nothing
	Breaks           Outcome = "breaks"            // the machine starts and ends by itself
	Slower           Outcome = "slower than TCG"
	Works            Outcome = "works"
)

// Figure is how long a trial machine took.
type Figure struct {
	Boot time.Duration `json:"boot"` // from Start until the kernel runs a program; 0: it was not seen
	Work time.Duration `json:"work"` // the fixed piece of work after that; 0: it was not done
}

// Total is the whole.
func (f Figure) Total() time.Duration { return f.Boot + f.Work }

// Proof is what is known of a host's KVM, and the same machine's figures under both accelerators.
type Proof struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"` // why it is not used: a clause that can stand alone
	Remedy  string  `json:"remedy,omitempty"`
	KVM     Figure  `json:"kvm"`
	TCG     Figure  `json:"tcg"`
}

// OK says that KVM is worth using.
func (p Proof) OK() bool { return p.Outcome == Works }

// End is how an attempt to boot a trial machine ended.
type End int

// The ends. An attempt that was not made has the zero End.
const (
	NotTried    End = iota
	SaidAll         // it said all that it was to say
	StaysSilent     // it lived until the deadline without saying it
	NeverBegan      // QEMU ended before the machine's first instruction
	EndedAlone      // the machine ended by itself
)

// Attempt is what was seen of booting a trial machine once.
type Attempt struct {
	End    End
	Figure Figure
	Waited time.Duration // until the end
	Words  string        // of the failure, if there was one
	Stderr string        // QEMU's
}

// Judge decides what can be decided without starting a machine. The zero Proof is for a host where nothing speaks
// against trying.
func (h HostKVM) Judge() Proof {
	switch {
	case h.Unseen:
		return Proof{}
	case errors.Is(h.Open, fs.ErrNotExist):
		return Proof{Outcome: NoDevice, Reason: "this host has no " + h.Device, Remedy: h.remedyNoDevice()}
	case errors.Is(h.Open, fs.ErrPermission):
		reason, remedy := h.noPermission()
		return Proof{Outcome: NoPermission, Reason: reason, Remedy: remedy}
	case h.Open != nil:
		return h.none(fmt.Sprintf("%s does not open: %v", h.Device, inmost(h.Open)))
	case h.API == 0:
		return h.none(fmt.Sprintf("%s opens, but %v", h.Device, errNoAnswer))
	case h.API != kvmAPI:
		return h.none(fmt.Sprintf("%s speaks version %d of KVM's interface, want %d", h.Device, h.API, kvmAPI))
	case h.Create != nil:
		return h.none(fmt.Sprintf("%s opens, but makes no virtual machine: %v", h.Device, h.Create))
	}
	return Proof{}
}

// none is a device behind which there is no virtualisation.
func (h HostKVM) none(reason string) Proof {
	remedy := h.remedyNoDevice()
	if h.CPU != "" {
		remedy = "end other hypervisors on this host (VirtualBox, VMware), which keep the processor's virtualisation to " +
			"themselves; else look for what the kernel says of it: dmesg | grep -i kvm"
	}
	return Proof{Outcome: NoVirtualisation, Reason: reason, Remedy: remedy}
}

const (
	remedyUnseen = "look at KVM on the machines' own host (ls -l /dev/kvm; dmesg | grep -i kvm); belljar doctor there says more"
	remedyNested = "this host is a virtual machine: have nested virtualisation switched on for it on its own host " +
		"(kvm_intel or kvm_amd with nested=1, and a processor passed through), or build on a real machine"
	remedyFirmware = "switch virtualisation (VT-x, or SVM on AMD) on in this machine's firmware; " +
		"then: sudo modprobe kvm_intel or kvm_amd"
)

// remedyNoDevice is for a host that has no KVM, or none behind its device.
func (h HostKVM) remedyNoDevice() string {
	module := map[string]string{"vmx": "kvm_intel", "svm": "kvm_amd"}[h.CPU]
	switch {
	case module != "" && h.Module == module:
		return fmt.Sprintf("%s is loaded, so this looks like a container: hand the device into it (--device %s)",
			module, h.Device)
	case module != "":
		return "load its module: sudo modprobe " + module
	case h.Virtual:
		return remedyNested
	}
	return remedyFirmware
}

func (h HostKVM) noPermission() (reason, remedy string) {
	a := h.Access
	reason = fmt.Sprintf("no permission to open %s", h.Device)
	switch {
	case a.Ruled:
		return reason + ": its file mode would allow it, something else forbids it",
			"a container's device rules or a security module keep it from this process: allow it there"
	case a.Granted && !a.Member:
		return fmt.Sprintf("%s: you are not in its group %s", reason, a.Group),
			fmt.Sprintf("add yourself to the group and log in again: sudo usermod -aG %s $USER", a.Group)
	}
	return fmt.Sprintf("%s: its group %s may not either (mode %04o)", reason, a.Group, a.Mode),
		fmt.Sprintf("give it to a group that you are in: sudo chgrp kvm %s && sudo chmod 660 %s, and a udev rule that "+
			"keeps it so", h.Device, h.Device)
}

// Classify says what two attempts at the same machine, one under each accelerator, prove of a host's KVM. It is a
// pure function of what was seen; whatever TCG's attempt lacks is not held against KVM.
func Classify(h HostKVM, cpu string, kvm, tcg Attempt) Proof {
	p := h.Judge()
	p.KVM, p.TCG = kvm.Figure, tcg.Figure
	if p.Outcome != "" {
		return p
	}
	switch kvm.End {
	case SaidAll:
		p.Outcome = Works
		if tcg.End == SaidAll && kvm.Figure.Total() >= tcg.Figure.Total() {
			p.Outcome = Slower
			p.Reason = fmt.Sprintf("KVM works, but slower than emulation: the same machine took %s under it, and %s under TCG",
				round(kvm.Figure.Total()), round(tcg.Figure.Total()))
		}
	case StaysSilent:
		p.Outcome = Hangs
		p.Reason = fmt.Sprintf("KVM opens but hangs: a machine that is up after a second or two was not after %s",
			round(kvm.Waited)) + said(kvm.Stderr)
	case NeverBegan:
		p.Outcome = Refused
		p.Reason = "KVM opens, but QEMU refuses it: " + kvm.Words
		if lacks := missing(kvm.Stderr); len(lacks) > 0 {
			p.Reason = fmt.Sprintf("KVM opens, but QEMU refuses to run a %s under it, for it lacks %s", cpu,
				strings.Join(lacks, ", "))
		}
	default:
		p.Outcome = Breaks
		p.Reason = "KVM opens, but a machine does not live under it: " + kvm.Words
	}
	if p.Outcome != Works {
		p.Remedy = h.remedyBroken(p.Outcome)
	}
	return p
}

// remedyBroken is for a KVM that makes machines and does not run them well.
func (h HostKVM) remedyBroken(o Outcome) string {
	switch {
	case h.Unseen:
		return remedyUnseen
	case h.CPU == "" && h.Virtual:
		return remedyNested
	case h.CPU == "":
		return remedyFirmware
	case h.Virtual && o == Refused:
		return "this host is a virtual machine whose processor is a lesser one: have its own host pass the processor " +
			"through (host-passthrough)"
	case h.Virtual:
		return "this host is a virtual machine, and the nested virtualisation that it is given does not do: build on " +
			"its own host or on a real machine"
	case o == Refused:
		return "this processor is older than the spec's CPU model: build on a newer one"
	}
	return "look for what the kernel says of it (dmesg | grep -i kvm), and update the kernel and the firmware"
}

// missingFeature is how QEMU names what an accelerator lacks of a CPU model, one a line (target/i386/cpu.c in QEMU's
// tree): 'host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]'. Read for people only: that QEMU refused is
// known from its end.
var missingFeature = regexp.MustCompile(`requested feature: \S*?(?:E[A-D]X|\))\.(\S+) \[bit \d+\]`)

// missing lists the features that QEMU's stderr says are lacking.
func missing(stderr string) []string {
	var all []string
	for _, m := range missingFeature.FindAllStringSubmatch(stderr, -1) {
		all = append(all, m[1])
	}
	return all
}

// said quotes the first line of QEMU's stderr that is more than a warning: after an internal error of KVM it stops the
// machine and prints registers.
func said(stderr string) string {
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, " warning: ") {
			return fmt.Sprintf(" (QEMU says: %s)", line)
		}
	}
	return ""
}

// inmost is an error without the path and the call that os wraps around it.
func inmost(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// round is a duration as people want it.
func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second / 10)
}
