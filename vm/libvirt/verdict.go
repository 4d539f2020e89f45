package libvirt

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// tailBytes and tailLines are how much of a log goes into an error as evidence.
const (
	tailBytes = 4096
	tailLines = 20
)

// decide turns the domain's end and QEMU's events into Wait's answer.
func (g *guest) decide() error {
	g.mu.Lock()
	end := vm.Ending{Events: g.seen, Ended: g.ended, Cause: g.cause}
	g.mu.Unlock()
	err, known := vm.Judge(g.name, end)
	if !known {
		return g.died()
	}
	if e, ok := err.(*fault.Error); ok { //nolint:errorlint // a fault in the context's cause has its own evidence
		return g.evidence(e)
	}
	return err
}

// died is the fault of a domain that ended for no reason that the guest or Belljar gave.
func (g *guest) died() error {
	if g.lost {
		return g.evidence(g.link.trouble("run "+g.name, errLost)).
			WithRemedy("look whether libvirtd still runs there, and into its log; the next run sweeps what this one left")
	}
	return g.evidence(fault.New(fault.Host, "run "+g.name, "QEMU ended on its own: %s", g.how())).
		WithRemedy("look into /var/log/libvirt/qemu/%s.log of libvirt's host (~/.cache/libvirt/qemu/log for "+
			"qemu:///session), and into its kernel log (dmesg) whether it ran out of memory", g.domain.Name)
}

// evidence adds what each side printed, and how to see it again.
func (g *guest) evidence(err *fault.Error) *fault.Error {
	return err.
		WithEvidence("console, last lines", g.tail(consoleLog)).
		WithEvidence("run it by hand", g.command)
}

// tail reads the end of a log.
func (g *guest) tail(name string) string {
	f, err := os.Open(filepath.Join(g.dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, tailBytes)
	n, _ := f.ReadAt(buf, max(0, info.Size()-tailBytes))
	lines := strings.Split(strings.TrimRight(console.Clean(string(buf[:n])), "\n"), "\n") // for a terminal
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// enforce does what QEMU's '-cpu MODEL,enforce' does, for which libvirt has no word: its own check compares the model
// with libvirt's idea of it, which differs from QEMU's. It asks QEMU what it had to leave out of the model
// (filtered-features, target/i386/cpu.c in QEMU's tree), before the first instruction.
func (g *guest) enforce() error {
	op := "start " + g.name
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
