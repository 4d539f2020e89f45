package rom

import (
	"fmt"
	"regexp"
)

// The profiles that are proposed.
const (
	ProfileHeads     = "heads"
	ProfileLinuxBoot = "linuxboot"
	ProfileCoreboot  = "coreboot"
	ProfileSeaBIOS   = "seabios"
	ProfileUBoot     = "u-boot"
	ProfileOVMF      = "ovmf"
)

// The machines that are proposed: in QEMU 6.2 (Ubuntu 22.04) and all later ones.
const (
	MachineI440FX = "pc-i440fx-6.2"
	MachineQ35    = "pc-q35-6.2"
)

func (m *Image) propose(profile, machine, why string) {
	m.Profile, m.Machine, m.Why = profile, machine, why
}

// boards are coreboot's for QEMU (src/mainboard/emulation): by their part number, which a build may change, and by their option.
var boards = []struct {
	part    *regexp.Regexp
	option  string
	machine string
}{
	{regexp.MustCompile(`(?i)qemu.*q35`), "BOARD_EMULATION_QEMU_X86_Q35", MachineQ35},
	{regexp.MustCompile(`(?i)qemu.*i440fx`), "BOARD_EMULATION_QEMU_X86_I440FX", MachineI440FX},
}

// proposeCoreboot proposes by payload and mainboard.
func (m *Image) proposeCoreboot() {
	profile := ProfileCoreboot
	switch {
	case m.Payload == nil:
	case m.Payload.Heads:
		profile = ProfileHeads
	case m.Payload.Kind == PayloadLinux:
		profile = ProfileLinuxBoot
	}
	for _, b := range boards {
		chosen, _, err := m.Config(b.option)
		if b.part.MatchString(m.Mainboard) || err == nil && chosen == "y" {
			m.propose(profile, b.machine, "its mainboard is "+m.Mainboard)
			return
		}
	}
	m.propose(profile, "", fmt.Sprintf("its mainboard is %q, which no machine of QEMU is", m.Mainboard))
}
