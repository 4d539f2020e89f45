package vm_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
)

const twoLacks = `qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]
qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.sse4.1 [bit 19]
qemu-system-x86_64: warning: host doesn't support requested feature: MSR(480H).vmx-ins-outs [bit 54]
qemu-system-x86_64: Host doesn't support requested features
`

// Each way in which a host's KVM can be, the sentence that says it, and the remedy for exactly this host.
func TestClassify(t *testing.T) {
	host := func(change func(*vm.HostKVM)) vm.HostKVM {
		h := soundHost
		change(&h)
		return h
	}
	open := func(err error) func(*vm.HostKVM) {
		return func(h *vm.HostKVM) { h.Open = &fs.PathError{Op: "open", Path: h.Device, Err: err} }
	}
	both := func(a, b func(*vm.HostKVM)) func(*vm.HostKVM) { return func(h *vm.HostKVM) { a(h); b(h) } }
	bare := func(h *vm.HostKVM) { h.CPU, h.Module = "", "" }
	inside := func(h *vm.HostKVM) { h.CPU, h.Module, h.Virtual = "", "", true }
	nested := func(h *vm.HostKVM) { h.Virtual = true }
	access := func(a vm.Access) func(*vm.HostKVM) { return func(h *vm.HostKVM) { h.Access = a } }
	took := func(boot, work time.Duration) vm.Attempt {
		return vm.Attempt{End: vm.SaidAll, Figure: vm.Figure{Boot: boot, Work: work}, Waited: boot + work}
	}
	silent := vm.Attempt{End: vm.StaysSilent, Waited: 6500 * time.Millisecond}
	refused := vm.Attempt{End: vm.NeverBegan, Words: "QEMU ended on its own: exit code 1", Stderr: twoLacks}
	tcg := took(3*time.Second, 1500*time.Millisecond)
	good := took(800*time.Millisecond, 100*time.Millisecond)

	for _, c := range []struct {
		name           string
		host           vm.HostKVM
		kvm, tcg       vm.Attempt
		want           vm.Outcome
		reason, remedy string
	}{
		{"works", soundHost, good, tcg, vm.Works, "", ""},
		{"works, TCG not measured", soundHost, good, silent, vm.Works, "", ""},
		{"works, TCG not tried", soundHost, good, vm.Attempt{}, vm.Works, "", ""},
		{"no device", host(both(open(syscall.ENOENT), bare)), good, tcg, vm.NoDevice, "this host has no /dev/kvm", "firmware"},
		{"no device, module not loaded", host(both(open(syscall.ENOENT), func(h *vm.HostKVM) { h.CPU, h.Module = "svm", "" })), good, tcg, vm.NoDevice, "no /dev/kvm", "modprobe kvm_amd"},
		{"no device in a container", host(open(syscall.ENOENT)), good, tcg, vm.NoDevice, "no /dev/kvm", "container"},
		{"no device in a virtual machine", host(both(open(syscall.ENOENT), inside)), good, tcg, vm.NoDevice, "no /dev/kvm", "nested virtualisation"},
		{"not in the group", host(both(open(syscall.EACCES), access(vm.Access{Group: "kvm", Mode: 0o660, Granted: true}))), good, tcg, vm.NoPermission, "you are not in its group kvm", "usermod -aG kvm"},
		{"the group may not", host(both(open(syscall.EACCES), access(vm.Access{Group: "root", Mode: 0o600}))), good, tcg, vm.NoPermission, "its group root may not either (mode 0600)", "udev"},
		{"something else forbids it", host(both(open(syscall.EPERM), access(vm.Access{Group: "kvm", Mode: 0o660, Granted: true, Member: true, Ruled: true}))), good, tcg, vm.NoPermission, "something else forbids it", "container"},
		{"nothing behind the device", host(both(open(syscall.ENODEV), bare)), good, tcg, vm.NoVirtualisation, "does not open: no such device", "firmware"},
		{"nothing behind it in a virtual machine", host(both(open(syscall.ENODEV), inside)), good, tcg, vm.NoVirtualisation, "does not open", "nested virtualisation"},
		{"not KVM's device", host(func(h *vm.HostKVM) { h.API = 0 }), good, tcg, vm.NoVirtualisation, "does not answer KVM_GET_API_VERSION", "dmesg"},
		{"another interface", host(func(h *vm.HostKVM) { h.API = 13 }), good, tcg, vm.NoVirtualisation, "speaks version 13", "dmesg"},
		{"another hypervisor has it", host(func(h *vm.HostKVM) { h.Create = syscall.EBUSY }), good, tcg, vm.NoVirtualisation, "makes no virtual machine: device or resource busy", "VirtualBox"},
		{"refused for features", soundHost, refused, tcg, vm.Refused, "refuses to run a Nehalem-v1 under it, for it lacks pni, sse4.1, vmx-ins-outs", "newer"},
		{"refused in a virtual machine", host(nested), refused, tcg, vm.Refused, "lacks pni", "host-passthrough"},
		{"refused without virtualisation", host(inside), refused, tcg, vm.Refused, "lacks pni", "nested virtualisation"},
		{"refused for another reason", soundHost, vm.Attempt{End: vm.NeverBegan, Words: "exit code 1: failed to initialize kvm"}, tcg, vm.Refused, "refuses it: exit code 1: failed to initialize kvm", "newer"},
		{"hangs", soundHost, silent, tcg, vm.Hangs, "was not after 6.5s", "dmesg"},
		{"hangs in a virtual machine", host(nested), silent, tcg, vm.Hangs, "was not after 6.5s", "nested virtualisation that it is given"},
		{"hangs with an internal error", soundHost, vm.Attempt{End: vm.StaysSilent, Waited: time.Second, Stderr: "qemu: warning: odd\n\nKVM internal error. Suberror: 1\nRAX=0"}, tcg, vm.Hangs, "(QEMU says: KVM internal error. Suberror: 1)", "dmesg"},
		{"breaks", soundHost, vm.Attempt{End: vm.EndedAlone, Words: "the guest's kernel panicked"}, tcg, vm.Breaks, "does not live under it: the guest's kernel panicked", "dmesg"},
		{"slower", host(nested), took(5*time.Second, time.Second), tcg, vm.Slower, "took 6s under it, and 4.5s under TCG", "nested"},
		{"boots slowly, works fast", soundHost, took(4*time.Second, 100*time.Millisecond), tcg, vm.Works, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := vm.Classify(c.host, "Nehalem-v1", c.kvm, c.tcg)
			if p.Outcome != c.want || !strings.Contains(p.Reason, c.reason) || !strings.Contains(p.Remedy, c.remedy) {
				t.Errorf("%s: %q, remedy %q", p.Outcome, p.Reason, p.Remedy)
			}
			if p.OK() != (p.Reason == "") || p.OK() != (p.Remedy == "") {
				t.Errorf("%s, reason %q, remedy %q", p.Outcome, p.Reason, p.Remedy)
			}
			if p.KVM != c.kvm.Figure || p.TCG != c.tcg.Figure {
				t.Errorf("figures %+v, %+v", p.KVM, p.TCG)
			}
		})
	}
	if p := vm.Classify(host(open(errors.New("odd"))), "x", good, tcg); !strings.Contains(p.Reason, "odd") {
		t.Errorf("an odd error: %+v", p)
	}
}

func TestWhere(t *testing.T) {
	for want, h := range map[string]vm.HostKVM{
		"this host is no virtual machine; kvm_intel, nested virtualisation for its guests: on": {CPU: "vmx", Module: "kvm_intel", Nested: "on"},
		"this host is no virtual machine; kvm_amd, nested virtualisation for its guests: off":  {CPU: "svm", Module: "kvm_amd", Nested: "off"},
		"a virtual machine with nested virtualisation (svm); kvm_amd":                          {CPU: "svm", Module: "kvm_amd", Virtual: true},
		"for its guests: unknown":                  {CPU: "vmx", Module: "kvm_intel"},
		"without nested virtualisation":            {Virtual: true},
		"shows neither vmx nor svm":                {},
		"its KVM is kvm_pvm's, which does not use": {Virtual: true, Module: "kvm_pvm"},
	} {
		if got := h.Where(); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q in it", h, got, want)
		}
	}
}
