package libvirt

import (
	"encoding/json"
	"fmt"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// died is the fault of a domain that ended for no reason that the guest or Belljar gave.
func (g *guest) died() error {
	if g.lost {
		return g.evidence(g.link.trouble("run "+g.Name, errLost)).
			WithRemedy("look whether libvirtd still runs there, and into its log; the next run sweeps what this one left")
	}
	return g.evidence(fault.New(fault.Host, "run "+g.Name, "QEMU ended on its own: %s", g.how())).
		WithRemedy("look into /var/log/libvirt/qemu/%s.log of libvirt's host (~/.cache/libvirt/qemu/log for "+
			"qemu:///session), and into its kernel log (dmesg) whether it ran out of memory", g.domain.Name)
}

// evidence adds what each side printed, and how to see it again.
func (g *guest) evidence(err *fault.Error) *fault.Error {
	return err.
		WithEvidence("console, last lines", g.Tail(vm.ConsoleLog, vm.TailLines)).
		WithEvidence("run it by hand", g.command)
}

// enforce does what QEMU's '-cpu MODEL,enforce' does, for which libvirt has no word: its own check compares the model
// with libvirt's idea of it, which differs from QEMU's. It asks QEMU what it had to leave out of the model
// (filtered-features, target/i386/cpu.c in QEMU's tree), before the first instruction.
func (g *guest) enforce() error {
	op := "start " + g.Name
	var cpus struct {
		Return []struct {
			Path string `json:"qom-path"`
		} `json:"return"`
	}
	if err := g.monitor(&cpus, `{"execute":"query-cpus-fast"}`); err != nil {
		return g.link.trouble(op, err)
	}
	for _, c := range cpus.Return {
		var filtered struct {
			Return []struct {
				Leaf     uint32 `json:"cpuid-input-eax"`
				Register string `json:"cpuid-register"`
				Features uint32 `json:"features"`
			} `json:"return"`
		}
		ask := fmt.Sprintf(`{"execute":"qom-get","arguments":{"path":%q,"property":"filtered-features"}}`, c.Path)
		if err := g.monitor(&filtered, ask); err != nil {
			return g.link.trouble(op, err)
		}
		for _, f := range filtered.Return {
			if f.Features != 0 {
				return fault.New(fault.Host, op, "the accelerator lacks features of the CPU model: bits %#x of CPUID "+
					"%#x %s", f.Features, f.Leaf, f.Register).
					WithRemedy("use --accel tcg, or an older CPU model")
			}
		}
	}
	return nil
}

// monitor gives QEMU a command and decodes its answer.
func (g *guest) monitor(answer any, command string) error {
	said, err := g.link.QEMUDomainMonitorCommand(g.domain, command, 0)
	if err != nil {
		return fmt.Errorf("ask QEMU: %w", err)
	}
	if err := json.Unmarshal([]byte(said), answer); err != nil {
		return fmt.Errorf("QEMU's answer: %w", err)
	}
	return nil
}
