package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// kvmDevice is the kernel's door to hardware virtualisation (Documentation/virt/kvm/api.rst). A variable for tests.
var kvmDevice = "/dev/kvm"

// KVMAccess says why KVM cannot even be tried, and what would help; two empty strings if it can. A device that opens
// proves nothing yet: see Prove.
func KVMAccess() (reason, remedy string) {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return "", ""
	}
	return explainKVM(kvmDevice, err)
}

// explainKVM puts why the device did not open into words.
func explainKVM(path string, err error) (reason, remedy string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "this host has no " + path,
			"enable virtualisation (VT-x or AMD-V) in the firmware, or nested virtualisation if this host is a " +
				"virtual machine itself; then: modprobe kvm_intel or modprobe kvm_amd"
	case errors.Is(err, fs.ErrPermission):
		group := groupOf(path)
		return fmt.Sprintf("no permission to open %s: you are not in the group %s", path, group),
			fmt.Sprintf("add yourself to the group and log in again: sudo usermod -aG %s $USER", group)
	}
	return fmt.Sprintf("%s does not open: %v", path, err), "look into the host's kernel log (dmesg) for what KVM says"
}

// groupOf names the group that owns a file.
func groupOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "kvm"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "kvm"
	}
	id := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
