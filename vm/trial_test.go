package vm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// soundHost is a host where nothing speaks against trying KVM.
var soundHost = vm.HostKVM{Device: "/dev/kvm", API: 12, CPU: "vmx", Module: "kvm_intel"}

func TestProbeMachine(t *testing.T) {
	m := vm.ProbeMachine(base, "/vmlinuz", "/initrd")
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	if m.Accel != vm.KVM || m.CPU != base.CPU || m.Type != base.Type || len(m.Disks)+len(m.Ports) != 0 || m.CPUs != 2 {
		t.Errorf("probe: %+v", m)
	}
}

// trial is one of a machine that must say RUNS and, after its work, DONE.
func trial(t *testing.T) vm.Trial {
	top := t.TempDir()
	return vm.Trial{
		Machine: vm.ProbeMachine(base, "k", "i"), Runs: "RUNS", Done: "DONE", Wait: 300 * time.Millisecond,
		Dir: func(name string) (string, error) {
			dir := filepath.Join(top, name)
			return dir, os.Mkdir(dir, 0o700)
		},
	}
}

// playing is a backend that plays one script under KVM and one under TCG.
func playing(kvm, tcg fake.Script) *fake.Backend {
	return &fake.Backend{Play: func(m vm.Machine) fake.Script {
		if m.Accel == vm.KVM {
			return kvm
		}
		return tcg
	}}
}

// saysAll says both lines, each after a pause.
func saysAll(pause time.Duration) fake.Script {
	return fake.Script{Lines: []fake.Line{{After: pause, Text: "noise RU"}, {Text: "NS\n"}, {After: pause, Text: "DONE\n"}}, End: fake.Stays}
}

func TestTrial(t *testing.T) {
	vm.SetHostKVM(t, soundHost)
	refused := fault.New(fault.Host, "run x", "QEMU ended on its own").
		WithEvidence("stderr", "qemu: warning: host doesn't support requested feature: CPUID.01H:ECX.sse4.2 [bit 20]\n")
	input := fault.New(fault.Input, "start x", "wrong hash")
	slow, fast := saysAll(60*time.Millisecond), saysAll(10*time.Millisecond)
	mute := fake.Script{Lines: fake.Say("noise"), End: fake.Stays, Logs: map[string]string{"stderr": "KVM internal error\n"}}
	for _, c := range []struct {
		name     string
		kvm, tcg fake.Script
		want     vm.Outcome
		reason   string
		err      error
	}{
		{"works", fast, slow, vm.Works, "", nil},
		{"works, and TCG takes too long", fast, mute, vm.Works, "", nil},
		{"slower than TCG", slow, fast, vm.Slower, "slower than emulation", nil},
		{"hangs", mute, fast, vm.Hangs, "(QEMU says: KVM internal error)", nil},
		{"hangs at its work", fake.Script{Lines: fake.Say("RUNS"), End: fake.Stays}, fast, vm.Hangs, "not after", nil},
		{"ends", fake.Script{Lines: fake.Say("noise")}, fast, vm.Breaks, `without saying "DONE"`, nil},
		{"resets", fake.Script{End: fake.Resets}, fast, vm.Breaks, "reset", nil},
		{"does not start", fake.Script{Start: refused}, fast, vm.Refused, "lacks sse4.2", nil},
		{"somebody else's fault", fake.Script{Start: input}, fast, "", "", input},
		{"something else is missing", fake.Script{Preflight: refused}, fake.Script{Preflight: refused}, "", "", refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := playing(c.kvm, c.tcg)
			start := time.Now()
			p, err := trial(t).Prove(t.Context(), b)
			if !errors.Is(err, c.err) || p.Outcome != c.want || !strings.Contains(p.Reason, c.reason) {
				t.Errorf("proof %+v, %v", p, err)
			}
			if err == nil && (p.Reason == "") != p.OK() || (p.Remedy == "") != (p.OK() || err != nil) {
				t.Errorf("reason %q, remedy %q", p.Reason, p.Remedy)
			}
			if err == nil && c.tcg.Logs == nil && (p.TCG.Boot == 0 || p.TCG.Work == 0) {
				t.Errorf("TCG was not measured: %+v", p)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if accels := accelsOf(b); err == nil && c.want != vm.Refused && !slices.Equal(accels, []vm.Accel{vm.KVM, vm.TCG}) {
				t.Errorf("machines under %s", accels)
			}
		})
	}
}

func accelsOf(b *fake.Backend) (all []vm.Accel) {
	for _, m := range b.Started() {
		all = append(all, m.Accel)
	}
	return all
}

// Where nothing opens, nothing is started.
func TestTrialWithoutKVM(t *testing.T) {
	vm.SetHostKVM(t, vm.HostKVM{Device: "/dev/kvm", Open: os.ErrNotExist})
	b := playing(saysAll(0), saysAll(0))
	if p, err := trial(t).Prove(t.Context(), b); err != nil || p.Outcome != vm.NoDevice || len(b.Started()) != 0 {
		t.Errorf("%+v, %v, %d machines", p, err, len(b.Started()))
	}
}

// On another host, this one's device says nothing; what the backend says of KVM there counts.
func TestTrialElsewhere(t *testing.T) {
	vm.SetHostKVM(t, vm.HostKVM{Device: "/dev/kvm", Open: os.ErrNotExist})
	no := fault.New(fault.Host, "preflight x", "the domain type kvm is not offered").WithRemedy("offer it")
	for _, c := range []struct {
		kvm    fake.Script
		want   vm.Outcome
		remedy string
	}{
		{saysAll(0), vm.Works, ""},
		{fake.Script{Preflight: no}, vm.NoVirtualisation, "offer it"},
		{fake.Script{End: fake.Stays}, vm.Hangs, "machines' own host"},
	} {
		tr := trial(t)
		tr.Unseen = true
		p, err := tr.Prove(t.Context(), playing(c.kvm, saysAll(20*time.Millisecond)))
		if err != nil || p.Outcome != c.want || !strings.Contains(p.Remedy, c.remedy) {
			t.Errorf("want %s: %+v, %v", c.want, p, err)
		}
	}
}

// Giving up is no proof.
func TestTrialCancelled(t *testing.T) {
	vm.SetHostKVM(t, soundHost)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	tr := trial(t)
	tr.Wait = time.Minute
	b := playing(fake.Script{End: fake.Stays}, fake.Script{End: fake.Stays})
	if p, err := tr.Prove(ctx, b); !errors.Is(err, context.Canceled) {
		t.Errorf("proof %+v, %v, want context.Canceled", p, err)
	}
}
