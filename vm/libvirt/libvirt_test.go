package libvirt

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/libvirt/libvirttest"
	"github.com/belljar/belljar/vm/vmtest"
)

func TestMain(m *testing.M) {
	libvirttest.Main()
	if order, ok := os.LookupEnv(helperVariable); ok {
		hold(order)
	}
	os.Exit(m.Run())
}

func needVM(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
}

// romMachine is a PC with a test ROM.
func romMachine(t *testing.T, dir, machineType, line string, then vmtest.Act) vm.Machine {
	t.Helper()
	rom := filepath.Join(dir, "test.rom")
	if err := os.WriteFile(rom, vmtest.ROM(line, then), 0o644); err != nil {
		t.Fatal(err)
	}
	return romPC(rom, machineType)
}

func romPC(rom, machineType string) vm.Machine {
	return vm.Machine{
		Name: "rom", Arch: vm.X86_64, Type: machineType, CPU: "qemu64-v1", CPUs: 1, Memory: 32 << 20,
		Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Accel: vm.TCG, OnReset: vm.ExitOnReset,
		Boot: vm.Boot{ROM: rom}, DebugCon: true,
	}
}

func TestConformance(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	for name, uri := range map[string]string{"unix": s.URI, "tcp": s.TCP} {
		machineType := map[string]string{"unix": "pc-q35-6.2", "tcp": "pc-i440fx-6.2"}[name]
		t.Run(name+"/"+machineType, func(t *testing.T) {
			vmtest.Conformance(t, vmtest.Suite{
				Backend: &Backend{URI: uri, Pool: libvirttest.Pool},
				Machine: func(t *testing.T, dir, line string, then vmtest.Act) vm.Machine {
					return romMachine(t, dir, machineType, line, then)
				},
				Echo: func(t *testing.T, dir string) vm.Machine {
					rom := filepath.Join(dir, "echo.rom")
					if err := os.WriteFile(rom, vmtest.EchoROM("echo"), 0o644); err != nil {
						t.Fatal(err)
					}
					m := romPC(rom, machineType)
					m.Ports = []string{"echo"}
					return m
				},
				Kill: func(t *testing.T, g vm.Guest) {
					for _, pid := range s.QEMUs(t, g.(*guest).domain.Name) {
						if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
							t.Fatal(err)
						}
					}
				},
			})
		})
	}
	if left := s.Files(t); len(left) > 0 {
		t.Errorf("left in the pool: %v", left)
	}
	if left := s.QEMUs(t, ""); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}
