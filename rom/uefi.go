package rom

import "github.com/belljar/belljar/rom/uefi"

// uefi takes a file with firmware volumes for UEFI firmware: code, variables, or both in one.
func (m *Image) uefi() (bool, error) {
	volumes, err := uefi.Volumes(m.rom, m.Size)
	if len(volumes) == 0 || err != nil {
		return false, err
	}
	ovmf, err := uefi.IsOVMF(m.rom, m.Size)
	if err != nil {
		return false, err
	}
	m.Kind, m.Volumes = UEFI, volumes
	switch {
	case m.onlyVariables():
		m.propose("", "", "it holds UEFI's variables, and no code that could boot: give the code, with this beside it")
	case ovmf && m.holds(uefi.Variables):
		m.propose(ProfileOVMF, MachineQ35, "it is edk2's firmware for virtual machines, with its variables")
	case ovmf:
		m.propose(ProfileOVMF, MachineQ35, "it is edk2's firmware for virtual machines, without its variables: it wants flash of its own for them")
	default:
		m.propose("", "", "it is UEFI firmware, and not edk2's for virtual machines: no machine of QEMU is known to boot it")
	}
	return true, nil
}

func (m *Image) holds(what string) bool {
	for _, v := range m.Volumes {
		if v.Holds == what {
			return true
		}
	}
	return false
}

func (m *Image) onlyVariables() bool { return m.holds(uefi.Variables) && !m.holds(uefi.Code) }
