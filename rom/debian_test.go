package rom_test

import (
	"os"
	"strings"
	"testing"
)

// TestDebian says what the ROMs of Debian's own packages are. They come with scripts/setup test; the version is whatever that
// Debian has.
func TestDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("reads ROMs of Debian packages that only 'make test' installs")
	}
	for _, c := range []struct{ path, kind, version, profile, machine string }{
		{"/usr/share/seabios/bios-256k.bin", "seabios", "1.", "seabios", "pc-i440fx-6.2"},
		{"/usr/share/seabios/bios.bin", "seabios", "1.", "seabios", "pc-i440fx-6.2"},
		{"/usr/share/seabios/vgabios-stdvga.bin", "option ROM", "", "", ""},
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "uefi", "", "ovmf", "pc-q35-6.2"},
		{"/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd", "uefi", "", "ovmf", "pc-q35-6.2"},
		{"/usr/share/OVMF/OVMF_VARS_4M.fd", "uefi", "", "", ""},
		{"/usr/share/ovmf/OVMF.fd", "uefi", "", "ovmf", "pc-q35-6.2"},
		{"/usr/lib/u-boot/qemu-x86/u-boot.rom", "u-boot", "20", "u-boot", "pc-i440fx-6.2"},
		{"/usr/lib/u-boot/qemu-x86_64/u-boot.rom", "u-boot", "20", "u-boot", "pc-i440fx-6.2"},
	} {
		t.Run(c.path, func(t *testing.T) {
			data, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatalf("%v; 'scripts/setup test' installs it", err)
			}
			m := open(t, data)
			if string(m.Kind) != c.kind || !strings.HasPrefix(m.Version, c.version) || m.Profile != c.profile || m.Machine != c.machine || len(m.Problems) > 0 {
				t.Errorf("%s %s, %s on %s, problems %q", m.Kind, m.Version, m.Profile, m.Machine, m.Problems)
			}
		})
	}
}
