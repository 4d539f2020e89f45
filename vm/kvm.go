package vm

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kvmDevice is the kernel's door to hardware virtualisation (Documentation/virt/kvm/api.rst). A variable for tests.
var kvmDevice = "/dev/kvm"

// The requests of the device and what it must answer (Documentation/virt/kvm/api.rst, sections 4.1 and 4.2;
// linux/kvm.h): KVM_GET_API_VERSION has said 12 since Linux 2.6.22, and a program is to refuse anything else.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmAPI           = 12
)

// HostKVM is what can be seen of a host's virtualisation without starting a machine.
type HostKVM struct {
	Unseen  bool   // machines run on another host, at which this program cannot look
	Device  string // the path that was tried
	Open    error  // why it does not open; nil if it does
	Access  Access // who may open it, if it is there
	API     int    // KVM_GET_API_VERSION's answer; 0 if there was none
	Create  error  // why KVM_CREATE_VM failed
	CPU     string // vmx (VT-x) or svm (AMD-V), the processor's flag for virtualisation; empty if it shows neither
	Virtual bool   // the host is a virtual machine itself: the processor has the flag 'hypervisor'
	Module  string // what does KVM's work: kvm_intel, kvm_amd, kvm_pvm, …; empty if nothing is loaded
	Nested  string // whether that lets guests have KVM in their turn: on, off, or empty where it does not say
}

// Access is who may open a device.
type Access struct {
	Group   string // that owns it
	Mode    os.FileMode
	Member  bool // this process is in the group
	Ruled   bool // the permissions allow it to this process: something else forbids it
	Granted bool // the group may read and write it
}

// LookAtKVM looks at this host. Making a virtual machine without a processor and throwing it away takes a millisecond.
func LookAtKVM() HostKVM {
	h := HostKVM{Device: kvmDevice}
	h.CPU, h.Virtual = cpuFlags(readAll("/proc/cpuinfo"))
	h.Module, h.Nested = kvmModule("/sys/module")
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		h.Open, h.Access = err, accessTo(kvmDevice)
		return h
	}
	defer f.Close()
	fd := int(f.Fd())
	if h.API, err = unix.IoctlRetInt(fd, kvmGetAPIVersion); err != nil {
		h.API = 0
		return h
	}
	machine, err := unix.IoctlRetInt(fd, kvmCreateVM)
	if err != nil {
		h.Create = err
		return h
	}
	_ = unix.Close(machine)
	return h
}

// KVMAccess says why KVM cannot even be tried, and what would help; two empty strings if it can. A device that opens
// and makes a machine proves nothing yet: see Trial.
func KVMAccess() (reason, remedy string) {
	p := look().Judge()
	return p.Reason, p.Remedy
}

// look is LookAtKVM. A variable for tests.
var look = LookAtKVM

// Where says what kind of host this is, in a clause: 'this host is a virtual machine without nested virtualisation'.
func (h HostKVM) Where() string {
	text := "this host is no virtual machine"
	switch {
	case h.Unseen:
		return "the machines run on another host"
	case h.Virtual && h.CPU != "":
		text = fmt.Sprintf("this host is a virtual machine with nested virtualisation (%s)", h.CPU)
	case h.Virtual:
		text = "this host is a virtual machine without nested virtualisation (its processor shows neither vmx nor svm)"
	case h.CPU == "":
		text += ", and its processor shows neither vmx nor svm"
	}
	switch h.Module {
	case "":
	case "kvm_intel", "kvm_amd":
		nested := h.Nested
		if nested == "" {
			nested = "unknown"
		}
		text += fmt.Sprintf("; %s, nested virtualisation for its guests: %s", h.Module, nested)
	default:
		text += fmt.Sprintf("; its KVM is %s's, which does not use the processor's virtualisation", h.Module)
	}
	return text
}

// cpuFlags finds in /proc/cpuinfo (x86: arch/x86/include/asm/cpufeatures.h) what tells of virtualisation.
func cpuFlags(cpuinfo string) (cpu string, virtual bool) {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for f := range strings.FieldsSeq(flags) {
			switch f {
			case "vmx", "svm":
				cpu = f
			case "hypervisor":
				virtual = true
			}
		}
		break // all processors are alike
	}
	return cpu, virtual
}

// kvmModule finds the module that does the work behind KVM's door, and its parameter 'nested' (Documentation/virt/kvm/
// x86/running-nested-guests.rst).
func kvmModule(dir string) (name, nested string) {
	all, _ := filepath.Glob(filepath.Join(dir, "kvm_*"))
	if len(all) == 0 {
		return "", ""
	}
	switch strings.TrimSpace(readAll(filepath.Join(all[0], "parameters", "nested"))) {
	case "Y", "1":
		nested = "on"
	case "N", "0":
		nested = "off"
	}
	return filepath.Base(all[0]), nested
}

// accessTo looks at who may open a device.
func accessTo(path string) Access {
	info, err := os.Stat(path)
	if err != nil {
		return Access{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Access{}
	}
	groups, _ := os.Getgroups()
	a := Access{Group: groupName(st.Gid), Mode: info.Mode().Perm()}
	a.Member = slices.Contains(append(groups, os.Getegid()), int(st.Gid))
	a.Granted = a.Mode&0o060 == 0o060
	a.Ruled = os.Geteuid() == 0 || a.Member && a.Granted || a.Mode&0o006 == 0o006 ||
		int(st.Uid) == os.Geteuid() && a.Mode&0o600 == 0o600
	return a
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// readAll is a small file of the kernel's; empty if it cannot be read.
func readAll(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// errNoAnswer is a device that opens and is not KVM's.
var errNoAnswer = errors.New("it does not answer KVM_GET_API_VERSION")
