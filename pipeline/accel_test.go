package pipeline

import (
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
)

// What doctor says of accelerators: the figures that there are, where this is, and the remedy.
func TestAccelChecks(t *testing.T) {
	const where = "this host is a test"
	figure := func(boot, work time.Duration) vm.Figure { return vm.Figure{Boot: boot, Work: work} }
	for _, c := range []struct {
		name       string
		proof      vm.Proof
		state      string
		kvm, tcg   []string
		kvmRemedy  string
		neverInTCG string
	}{
		{
			"works", vm.Proof{Outcome: vm.Works, KVM: figure(800*time.Millisecond, 100*time.Millisecond), TCG: figure(3*time.Second, 1500*time.Millisecond)},
			CheckOK, []string{"boots the kernel in 0.80 s and counts to 100000 in 0.10 s", where}, []string{"boots the kernel in 3.00 s and counts to 100000 in 1.50 s", "counts 15 times"}, "", "without a measurement",
		},
		{
			"slower", vm.Proof{Outcome: vm.Slower, Reason: "it is slow", Remedy: "buy another", KVM: figure(time.Minute, 1), TCG: figure(time.Second, 1)},
			CheckWarn, []string{"slower than TCG: it is slow (found in 3s)", where}, []string{"boots the kernel in 1.00 s", "counts 10 times"}, "buy another. Belljar works without", "without a measurement",
		},
		{
			"no device", vm.Proof{Outcome: vm.NoDevice, Reason: "there is none", Remedy: "get one"},
			CheckWarn, []string{"no device: there is none"}, []string{"without a measurement", "counts 10 times"}, "get one. ", "boots",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			checks := accelChecks(c.proof, where, "the kernel", "found in 3s")
			if len(checks) != 2 || checks[0].Name != "kvm" || checks[1].Name != "tcg" || checks[1].State != CheckOK {
				t.Fatalf("%+v", checks)
			}
			kvm, tcg := checks[0], checks[1]
			for _, want := range c.kvm {
				if !strings.Contains(kvm.Text, want) {
					t.Errorf("%q: no %q", kvm.Text, want)
				}
			}
			for _, want := range c.tcg {
				if !strings.Contains(tcg.Text, want) || strings.Contains(tcg.Text, c.neverInTCG) {
					t.Errorf("%q: no %q, or %q", tcg.Text, want, c.neverInTCG)
				}
			}
			if kvm.State != c.state || !strings.HasPrefix(kvm.Remedy, c.kvmRemedy) || (kvm.Remedy == "") != (c.state == CheckOK) {
				t.Errorf("%+v", kvm)
			}
		})
	}
}
