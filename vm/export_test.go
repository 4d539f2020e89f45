package vm

import "testing"

// SetKVMDevice puts another file in /dev/kvm's place for a test.
func SetKVMDevice(t *testing.T, path string) {
	before := kvmDevice
	kvmDevice = path
	t.Cleanup(func() { kvmDevice = before })
}

// ExplainKVM is explainKVM.
var ExplainKVM = explainKVM
