package vm

import "testing"

// SetKVMDevice puts another file in /dev/kvm's place for a test.
func SetKVMDevice(t *testing.T, path string) {
	before := kvmDevice
	kvmDevice = path
	t.Cleanup(func() { kvmDevice = before })
}

// SetHostKVM puts another host in this one's place for a test.
func SetHostKVM(t *testing.T, h HostKVM) {
	before := look
	look = func() HostKVM { return h }
	t.Cleanup(func() { look = before })
}

// What finds out about a host.
var (
	CPUFlags  = cpuFlags
	KVMModule = kvmModule
)
