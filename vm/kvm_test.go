package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belljar/belljar/vm"
)

// Each of these is a file that stands in /dev/kvm's place, and is looked at for real.
func TestLookAtKVM(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, device string
		want         vm.Outcome
		reason       string
	}{
		{"no device", filepath.Join(dir, "none"), vm.NoDevice, "this host has no " + dir},
		{"a device that is not KVM's", "/dev/null", vm.NoVirtualisation, "does not answer"},
		{"a file", plain, vm.NoVirtualisation, "does not answer"},
		{"a folder", dir, vm.NoVirtualisation, "is a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vm.SetKVMDevice(t, c.device)
			if p := vm.LookAtKVM().Judge(); p.Outcome != c.want || !strings.Contains(p.Reason, c.reason) || p.Remedy == "" {
				t.Errorf("%+v", p)
			}
			if reason, remedy := vm.KVMAccess(); reason == "" || remedy == "" {
				t.Errorf("access: %q, %q", reason, remedy)
			}
		})
	}
}

// What this host's own device says is consistent, whatever it is.
func TestThisHostsKVM(t *testing.T) {
	h := vm.LookAtKVM()
	t.Logf("%+v: %s", h, h.Where())
	if p := h.Judge(); (p.Outcome == "") != (h.Open == nil && h.API == 12 && h.Create == nil) {
		t.Errorf("%+v: judged %+v", h, p)
	}
}

const asAnother = "BELLJAR_TEST_KVM_DEVICE"

// A device that belongs to root and a group, and a user who is not in it.
func TestNoPermission(t *testing.T) {
	if device := os.Getenv(asAnother); device != "" { // the other user
		vm.SetKVMDevice(t, device)
		p := vm.LookAtKVM().Judge()
		fmt.Printf("%s|%s|%s\n", p.Outcome, p.Reason, p.Remedy)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	const group, nobody = 65533, 65534 // a group without a name
	dir, err := os.MkdirTemp("", "belljar-kvm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, device := filepath.Join(dir, "self"), filepath.Join(dir, "kvm")
	copyProgram(t, self)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(device, 0, group); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode           os.FileMode
		groups         []uint32
		reason, remedy string
	}{
		{0o660, nil, "no permission|no permission to open " + device + ": you are not in its group 65533", "usermod -aG 65533"},
		{0o600, nil, "no permission|no permission to open " + device + ": its group 65533 may not either (mode 0600)", "udev"},
		{0o660, []uint32{group}, "no virtualisation|", ""}, // in the group: it opens, and is a mere file
	} {
		if err := os.Chmod(device, c.mode); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestNoPermission$")
		cmd.Env, cmd.Dir = append(os.Environ(), asAnother+"="+device), dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: c.groups}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), c.reason) || !strings.Contains(string(out), c.remedy) {
			t.Errorf("mode %04o, groups %v: %v\n%s", c.mode, c.groups, err, out)
		}
	}
}

// copyProgram lays this test's program where another user can run it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestCPUFlags(t *testing.T) {
	for _, c := range []struct {
		name, cpuinfo, cpu string
		virtual            bool
	}{
		{"VT-x", "processor\t: 0\nflags\t\t: fpu vmx sse\nvmx flags\t: vnmi\n", "vmx", false},
		{"AMD-V in a virtual machine", "flags\t\t: fpu svm hypervisor\n", "svm", true},
		{"a virtual machine", "flags\t\t: fpu hypervisor lahf_lm\n", "", true},
		{"a word within a word", "flags\t\t: svm_lock xvmx\n", "", false},
		{"no flags", "processor\t: 0\nFeatures\t: fp asimd\n", "", false},
		{"nothing", "", "", false},
	} {
		if cpu, virtual := vm.CPUFlags(c.cpuinfo); cpu != c.cpu || virtual != c.virtual {
			t.Errorf("%s: %q, %v", c.name, cpu, virtual)
		}
	}
}

func TestKVMModule(t *testing.T) {
	for _, c := range []struct{ module, nested, want string }{
		{"kvm_intel", "Y\n", "on"}, {"kvm_intel", "N\n", "off"}, {"kvm_amd", "1\n", "on"}, {"kvm_amd", "0\n", "off"}, {"kvm_pvm", "", ""},
	} {
		dir := t.TempDir()
		parameters := filepath.Join(dir, c.module, "parameters")
		if err := os.MkdirAll(parameters, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "kvm"), 0o755); err != nil { // what all of them share
			t.Fatal(err)
		}
		if c.nested != "" {
			if err := os.WriteFile(filepath.Join(parameters, "nested"), []byte(c.nested), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if module, nested := vm.KVMModule(dir); module != c.module || nested != c.want {
			t.Errorf("%v: %q, %q", c, module, nested)
		}
	}
	if module, _ := vm.KVMModule(t.TempDir()); module != "" {
		t.Errorf("no module: %q", module)
	}
}
