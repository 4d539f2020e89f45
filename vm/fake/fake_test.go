package fake_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
	"github.com/belljar/belljar/vm/vmtest"
)

func TestConformance(t *testing.T) {
	ends := map[vmtest.Act]fake.End{
		vmtest.PowerOff: fake.PowersOff, vmtest.Reset: fake.Resets, vmtest.Hang: fake.Stays, vmtest.Panic: fake.Panics,
		vmtest.Spin: fake.Stays,
	}
	samples := map[vmtest.Act][]vm.Progress{
		vmtest.Hang: {{CPU: time.Millisecond}}, vmtest.Spin: {{CPU: time.Second}, {CPU: 2 * time.Second}, {CPU: 3 * time.Second}},
	}
	scripts := map[string]fake.Script{} // by the machine's name
	machine := func(s fake.Script, name string, ports ...string) vm.Machine {
		scripts[name] = s
		return vm.Machine{
			Name: name, Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 1, Memory: 64 << 20,
			Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Accel: vm.TCG, Ports: ports,
		}
	}
	vmtest.Conformance(t, vmtest.Suite{
		Backend: &fake.Backend{Play: func(m vm.Machine) fake.Script { return scripts[m.Name] }},
		Machine: func(t *testing.T, _, line string, then vmtest.Act) vm.Machine {
			s := fake.Script{Lines: fake.Say("first", line), End: ends[then], Progress: samples[then]}
			s.Lines[1].After = 20 * time.Millisecond
			return machine(s, strings.ReplaceAll(t.Name(), ",", ""))
		},
		Echo: func(t *testing.T, _ string) vm.Machine {
			echo := func(c net.Conn) { _, _ = io.Copy(c, c) }
			return machine(fake.Script{End: fake.Stays, Ports: map[string]func(net.Conn){"echo": echo}}, "echo", "echo")
		},
		Kill: func(_ *testing.T, g vm.Guest) { g.(fake.Killer).Kill() },
	})
}
