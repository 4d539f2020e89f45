package vm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

var base = vm.Machine{
	Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 4, Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	Disks: []vm.Disk{{Serial: "root", Path: "/root.img", Bus: vm.BusVirtio}}, Ports: []string{"belljar.ssh"},
}

func TestDecide(t *testing.T) {
	vm.SetHostKVM(t, soundHost)
	key := vm.Key{BootID: "b1", QEMU: "7.2.22", Kernel: "k1", Type: "pc-q35-6.2", CPU: "Nehalem-v1"}
	good := vm.Proof{Outcome: vm.Works, KVM: vm.Figure{Boot: time.Second, Work: time.Second / 10}}
	bad := vm.Proof{Outcome: vm.Hangs, Reason: "it hangs", Remedy: "mend it", TCG: vm.Figure{Boot: 3 * time.Second, Work: 2 * time.Second}}
	calls := 0
	prove := func(p vm.Proof) func(context.Context) (vm.Proof, error) {
		return func(context.Context) (vm.Proof, error) { calls++; return p, nil }
	}
	decide := func(t *testing.T, want vm.Accel, p vm.Proof, dir string, k vm.Key) (vm.Decision, error) {
		t.Helper()
		return vm.Decide(t.Context(), want, prove(p), dir, k)
	}

	t.Run("tcg needs no proof", func(t *testing.T) {
		calls = 0
		if d, err := decide(t, vm.TCG, good, t.TempDir(), key); err != nil || d.Accel != vm.TCG || d.Reason != "" || d.Pace != vm.TCGPace || calls != 0 {
			t.Errorf("%+v, %v, %d calls", d, err, calls)
		}
	})
	t.Run("auto takes what works, and remembers", func(t *testing.T) {
		calls = 0
		dir := filepath.Join(t.TempDir(), "not", "yet", "there")
		for i, fromCache := range []bool{false, true} {
			if d, err := decide(t, vm.Auto, good, dir, key); err != nil || d.Accel != vm.KVM || d.Reason != "" || d.Pace != 1 || d.FromCache != fromCache || calls != 1 {
				t.Errorf("time %d: %+v, %v, %d calls", i, d, err, calls)
			}
		}
	})
	t.Run("auto falls back aloud, and remembers", func(t *testing.T) {
		calls = 0
		dir := t.TempDir()
		for i, word := range []string{"it hangs", "found earlier"} {
			d, err := decide(t, vm.Auto, bad, dir, key)
			if err != nil || d.Accel != vm.TCG || !strings.Contains(d.Reason, word) || !strings.Contains(d.Reason, "TCG") || d.Pace != 20 || calls != 1 {
				t.Errorf("time %d: %+v, %v, %d calls", i, d, err, calls)
			}
		}
		for i := range 2 {
			d, err := decide(t, vm.KVM, good, dir, key)
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != fault.Host || !strings.Contains(e.Error(), "it hangs") || e.Remedy == "" || calls != 1 {
				t.Errorf("kvm, time %d: %+v, %v, %d calls", i, d, err, calls)
			}
		}
	})
	t.Run("tcg takes the pace that was measured", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := decide(t, vm.Auto, bad, dir, key); err != nil {
			t.Fatal(err)
		}
		if d, err := decide(t, vm.TCG, good, dir, key); err != nil || d.Pace != 20 || d.Reason != "" {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("each part of the key counts", func(t *testing.T) {
		dir := t.TempDir()
		other := func(change func(*vm.Key)) vm.Key { k := key; change(&k); return k }
		for i, k := range []vm.Key{
			key,
			other(func(k *vm.Key) { k.QEMU = "8.0" }),
			other(func(k *vm.Key) { k.Kernel = "k2" }),
			other(func(k *vm.Key) { k.Type = "pc-q35-7.2" }),
			other(func(k *vm.Key) { k.CPU = "qemu64-v1" }),
			other(func(k *vm.Key) { k.BootID = "b2" }),
		} {
			calls = 0
			if d, err := decide(t, vm.Auto, good, dir, k); err != nil || d.FromCache || calls != 1 {
				t.Errorf("key %d: %+v, %v, %d calls", i, d, err, calls)
			}
		}
		if _, known := vm.Recall(dir, key); known {
			t.Error("a proof outlived the host's boot")
		}
	})
	t.Run("a spoilt memory is an empty one", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := decide(t, vm.Auto, good, dir, key); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(files) != 1 {
			t.Fatalf("files %v, want one", files)
		}
		if err := os.WriteFile(files[0], []byte(`[{"key":`), 0o644); err != nil {
			t.Fatal(err)
		}
		calls = 0
		if d, err := decide(t, vm.Auto, good, dir, key); err != nil || d.FromCache || calls != 1 {
			t.Errorf("%+v, %v, %d calls", d, err, calls)
		}
	})
	t.Run("the memory of an earlier Belljar is none", func(t *testing.T) {
		dir := t.TempDir()
		if err := vm.Remember(dir, key, vm.Proof{}); err != nil { // its fields had other names
			t.Fatal(err)
		}
		calls = 0
		if d, err := decide(t, vm.Auto, good, dir, key); err != nil || d.FromCache || calls != 1 {
			t.Errorf("%+v, %v, %d calls", d, err, calls)
		}
	})
	t.Run("a proof that could not be made is not remembered", func(t *testing.T) {
		dir := t.TempDir()
		fails := func(context.Context) (vm.Proof, error) { return vm.Proof{}, context.Canceled }
		if _, err := vm.Decide(t.Context(), vm.Auto, fails, dir, key); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if _, known := vm.Recall(dir, key); known {
			t.Error("remembered")
		}
	})
	t.Run("elsewhere, this host's device does not count", func(t *testing.T) {
		vm.SetHostKVM(t, vm.HostKVM{Device: "/dev/kvm", Open: os.ErrNotExist})
		there := key
		there.Host = "6d1f"
		if d, err := decide(t, vm.Auto, good, t.TempDir(), there); err != nil || d.Accel != vm.KVM {
			t.Errorf("%+v, %v", d, err)
		}
		vm.SetHostKVM(t, soundHost)
	})
	t.Run("no such accelerator", func(t *testing.T) {
		if _, err := decide(t, "hvf", good, t.TempDir(), key); fault.KindOf(err) != fault.Usage {
			t.Errorf("error %v, want a usage fault", err)
		}
	})
	t.Run("no device", func(t *testing.T) {
		vm.SetHostKVM(t, vm.HostKVM{Device: "/dev/no-such-kvm", Open: os.ErrNotExist})
		calls = 0
		if d, err := decide(t, vm.Auto, good, t.TempDir(), key); err != nil || d.Accel != vm.TCG || !strings.Contains(d.Reason, "has no /dev/no-such-kvm") || calls != 0 {
			t.Errorf("auto: %+v, %v, %d calls", d, err, calls)
		}
		_, err := decide(t, vm.KVM, good, t.TempDir(), key)
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Host || e.Remedy == "" {
			t.Errorf("kvm: %v, want a host fault with a remedy", err)
		}
	})
}

func TestHostBootID(t *testing.T) {
	a, err := vm.HostBootID()
	if b, _ := vm.HostBootID(); err != nil || len(a) != 36 || a != b {
		t.Errorf("boot id %q, %v", a, err)
	}
}
