package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
	"github.com/belljar/belljar/vm/vmtest"
)

func TestMain(m *testing.M) {
	supervise.Main()
	if dir, ok := os.LookupEnv(helperVariable); ok {
		holdQEMU(dir)
	}
	os.Exit(m.Run())
}

// romMachine is a PC with a test ROM.
func romMachine(t *testing.T, dir, machineType, line string, then vmtest.Act) vm.Machine {
	t.Helper()
	m, err := writeMachine(dir, machineType, line, then)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func writeMachine(dir, machineType, line string, then vmtest.Act) (vm.Machine, error) {
	rom := filepath.Join(dir, "test.rom")
	return vm.Machine{
		Name: "rom", Arch: vm.X86_64, Type: machineType, CPU: "qemu64-v1", CPUs: 1, Memory: 32 << 20,
		Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Accel: vm.TCG, OnReset: vm.ExitOnReset,
		Boot: vm.Boot{ROM: rom}, DebugCon: true,
	}, os.WriteFile(rom, vmtest.ROM(line, then), 0o644)
}

func needVM(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
}

func TestConformance(t *testing.T) {
	needVM(t)
	for _, machineType := range []string{"pc-q35-6.2", "pc-i440fx-6.2"} {
		t.Run(machineType, func(t *testing.T) {
			vmtest.Conformance(t, vmtest.Suite{
				Backend: &Backend{},
				Machine: func(t *testing.T, dir, line string, then vmtest.Act) vm.Machine {
					return romMachine(t, dir, machineType, line, then)
				},
				Echo: func(t *testing.T, dir string) vm.Machine {
					m := romMachine(t, dir, machineType, "", vmtest.Hang)
					if err := os.WriteFile(m.Boot.ROM, vmtest.EchoROM("echo"), 0o644); err != nil {
						t.Fatal(err)
					}
					m.Ports = []string{"echo"}
					return m
				},
				Kill: func(t *testing.T, g vm.Guest) {
					if err := syscall.Kill(g.(*guest).PID(), syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				},
			})
		})
	}
}

// boot starts a test machine in a folder whose path is far longer than a socket's may be.
func boot(t *testing.T, m func(dir string) vm.Machine) *guest {
	t.Helper()
	needVM(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := (&Backend{}).Start(t.Context(), m(dir), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g.(*guest)
}
