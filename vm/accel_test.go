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
	"github.com/belljar/belljar/vm/fake"
)

var base = vm.Machine{
	Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 4, Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	Disks: []vm.Disk{{Serial: "root", Path: "/root.img", Bus: vm.BusVirtio}}, Ports: []string{"belljar.ssh"},
}

func TestProbeMachine(t *testing.T) {
	m := vm.ProbeMachine(base, "/vmlinuz", "/initrd")
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	if m.Accel != vm.KVM || m.CPU != base.CPU || m.Type != base.Type || len(m.Disks)+len(m.Ports) != 0 || m.CPUs != 2 {
		t.Errorf("probe: %+v", m)
	}
}

func TestProve(t *testing.T) {
	broken := fault.New(fault.Host, "run x", "QEMU ended on its own")
	input := fault.New(fault.Input, "start x", "wrong hash")
	for _, c := range []struct {
		name   string
		script fake.Script
		ok     bool
		reason string
		err    error
	}{
		{"works", fake.Script{Lines: fake.Say("noise", "READY"), End: fake.Stays}, true, "", nil},
		{"the line comes in pieces", fake.Script{Lines: []fake.Line{{Text: "noise RE"}, {After: 40 * time.Millisecond, Text: "ADY\n"}}}, true, "", nil},
		{"hangs", fake.Script{Lines: fake.Say("noise"), End: fake.Stays}, false, "had not after", nil},
		{"says nothing of it", fake.Script{Lines: fake.Say("noise")}, false, "without saying", nil},
		{"resets", fake.Script{End: fake.Resets}, false, "reset", nil},
		{"does not start", fake.Script{Start: broken}, false, "QEMU ended", nil},
		{"somebody else's fault", fake.Script{Start: input}, false, "", input},
		{"something else is missing", fake.Script{Preflight: broken}, false, "", broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &fake.Backend{Play: func(vm.Machine) fake.Script { return c.script }}
			start := time.Now()
			p, err := vm.Prove(t.Context(), b, vm.ProbeMachine(base, "k", "i"), "READY", t.TempDir(), 300*time.Millisecond)
			if !errors.Is(err, c.err) || p.OK != c.ok || !strings.Contains(p.Reason, c.reason) || (p.Reason == "") != (c.ok || err != nil) {
				t.Errorf("proof %+v, %v", p, err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// Giving up is no proof.
func TestProveCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	b := &fake.Backend{Play: func(vm.Machine) fake.Script { return fake.Script{End: fake.Stays} }}
	if p, err := vm.Prove(ctx, b, vm.ProbeMachine(base, "k", "i"), "READY", t.TempDir(), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("proof %+v, %v, want context.Canceled", p, err)
	}
}

func TestDecide(t *testing.T) {
	vm.SetKVMDevice(t, "/dev/null") // opens, whatever host this is
	key := vm.Key{BootID: "b1", QEMU: "7.2.22", Kernel: "k1"}
	good, bad := vm.Proof{OK: true, Took: time.Second}, vm.Proof{Reason: "it hangs", Took: 12 * time.Second}
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
		if d, err := decide(t, vm.TCG, good, t.TempDir(), key); err != nil || d.Accel != vm.TCG || d.Reason != "" || calls != 0 {
			t.Errorf("%+v, %v, %d calls", d, err, calls)
		}
	})
	t.Run("auto takes what works, and remembers", func(t *testing.T) {
		calls = 0
		dir := filepath.Join(t.TempDir(), "not", "yet", "there")
		for i, fromCache := range []bool{false, true} {
			if d, err := decide(t, vm.Auto, good, dir, key); err != nil || d.Accel != vm.KVM || d.Reason != "" || d.FromCache != fromCache || calls != 1 {
				t.Errorf("time %d: %+v, %v, %d calls", i, d, err, calls)
			}
		}
	})
	t.Run("auto falls back aloud, and remembers", func(t *testing.T) {
		calls = 0
		dir := t.TempDir()
		for i, word := range []string{"it hangs", "found earlier"} {
			d, err := decide(t, vm.Auto, bad, dir, key)
			if err != nil || d.Accel != vm.TCG || !strings.Contains(d.Reason, word) || !strings.Contains(d.Reason, "TCG") || calls != 1 {
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
	t.Run("each part of the key counts", func(t *testing.T) {
		dir := t.TempDir()
		for i, k := range []vm.Key{key, {"b1", "8.0", "k1"}, {"b1", "7.2.22", "k2"}, {"b2", "7.2.22", "k1"}} {
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
	t.Run("no such accelerator", func(t *testing.T) {
		if _, err := decide(t, "hvf", good, t.TempDir(), key); fault.KindOf(err) != fault.Usage {
			t.Errorf("error %v, want a usage fault", err)
		}
	})
	t.Run("no device", func(t *testing.T) {
		vm.SetKVMDevice(t, "/dev/no-such-kvm")
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

func TestKVMRefusal(t *testing.T) {
	reason, remedy := vm.ExplainKVM("/dev/kvm", os.ErrPermission)
	if !strings.Contains(reason, "not in the group") || !strings.Contains(remedy, "usermod -aG") {
		t.Errorf("no permission: %q, %q", reason, remedy)
	}
	if reason, remedy := vm.ExplainKVM("/dev/kvm", errors.New("odd")); !strings.Contains(reason, "odd") || remedy == "" {
		t.Errorf("another error: %q, %q", reason, remedy)
	}
}

func TestHostBootID(t *testing.T) {
	a, err := vm.HostBootID()
	if b, _ := vm.HostBootID(); err != nil || len(a) != 36 || a != b {
		t.Errorf("boot id %q, %v", a, err)
	}
}
