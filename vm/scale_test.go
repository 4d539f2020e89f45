package vm_test

import (
	"math"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
)

func TestPaceOf(t *testing.T) {
	worked := func(kvm, tcg time.Duration) vm.Proof {
		return vm.Proof{KVM: vm.Figure{Work: kvm}, TCG: vm.Figure{Work: tcg}}
	}
	for _, c := range []struct {
		name  string
		accel vm.Accel
		proof vm.Proof
		want  vm.Pace
	}{
		{"KVM on a machine of today", vm.KVM, worked(vm.ReferenceWork, time.Second), 1},
		{"KVM on a fast one", vm.KVM, worked(vm.ReferenceWork/4, time.Second), 1},
		{"KVM on a slow one", vm.KVM, worked(3*vm.ReferenceWork, time.Second), 3},
		{"KVM without a measurement", vm.KVM, vm.Proof{}, 1},
		{"TCG without a measurement", vm.TCG, vm.Proof{}, vm.TCGPace},
		{"TCG on a fast host", vm.TCG, worked(0, 6*vm.ReferenceWork), vm.TCGPace},
		{"TCG on a slow host", vm.TCG, worked(0, 15*vm.ReferenceWork), 15},
		{"TCG on a host that stood still", vm.TCG, worked(0, time.Hour), 40},
	} {
		if got := vm.PaceOf(c.accel, c.proof); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		pace     vm.Pace
		in, want time.Duration
		text     string
	}{
		{10, time.Minute, 10 * time.Minute, "10"},
		{12.34, time.Second, 12340 * time.Millisecond, "12.3"},
		{1, time.Minute, time.Minute, "1"},
		{0, time.Minute, time.Minute, "1"}, // nobody has decided
		{10, 0, 0, "10"},                   // no limit stays none
		{40, math.MaxInt64 / 2, math.MaxInt64, "40"},
	} {
		if got := c.pace.Of(c.in); got != c.want || c.pace.String() != c.text {
			t.Errorf("%v of %s: %s, want %s; text %q", float64(c.pace), c.in, got, c.want, c.pace)
		}
	}
}
