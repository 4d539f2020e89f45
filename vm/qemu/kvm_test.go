package qemu

import (
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

// Whatever this host's KVM is like (none, broken, sound): the question is answered, in time, and with a reason.
func TestKVMIsAnswered(t *testing.T) {
	needVM(t)
	if reason, remedy := vm.KVMAccess(); reason != "" {
		if remedy == "" {
			t.Errorf("%s: no remedy", reason)
		}
		t.Skip(reason)
	}
	for name, ask := range map[string]func(vm.Machine, string) (vm.Proof, error){
		"quick probe": func(m vm.Machine, dir string) (vm.Proof, error) {
			return vm.QuickProbe(t.Context(), &Backend{}, m, dir)
		},
		"proof": func(m vm.Machine, dir string) (vm.Proof, error) {
			return vm.Prove(t.Context(), &Backend{}, m, "works", dir, 3*time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := romMachine(t, dir, "pc-q35-6.2", "works", vmtest.PowerOff)
			m.Accel = vm.KVM
			start := time.Now()
			p, err := ask(m, dir)
			if err != nil || p.OK != (p.Reason == "") {
				t.Errorf("%+v, %v", p, err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			t.Logf("KVM: %+v", p)
			sockets(t, dir)
		})
	}
}

// The same proof, under the accelerator that always works.
func TestProveUnderTCG(t *testing.T) {
	needVM(t)
	for line, ok := range map[string]bool{"works": true, "something else": false} {
		dir := t.TempDir()
		p, err := vm.Prove(t.Context(), &Backend{}, romMachine(t, dir, "pc-q35-6.2", line, vmtest.PowerOff), "works", dir, time.Minute)
		if err != nil || p.OK != ok {
			t.Errorf("a machine that says %q: %+v, %v", line, p, err)
		}
	}
}
