package rom

import (
	"encoding/binary"
	"errors"
	"io"
	"regexp"

	"github.com/belljar/belljar/rom/scan"
)

// What firmware prints of itself. SeaBIOS keeps its format and its version apart (src/fw/biostables.c and out/autoversion.h), so
// the version is a string of that shape of its own: a number of at least two dots, as all have had since 2008.
var (
	seabiosBanner  = regexp.MustCompile(`SeaBIOS \(version %s\)`)
	seabiosVersion = regexp.MustCompile(`\x00((?:rel-)?\d+\.\d+\.\d+[ -~]{0,100})\x00`)
	ubootBanner    = regexp.MustCompile(`U-Boot (\d{4}\.\d{2}[!-~]{0,80}) \(`) // include/version.h: U_BOOT_VERSION, a date
	grubBanner     = regexp.MustCompile(`Welcome to GRUB!|GNU GRUB  version`)
	volumeMark     = regexp.MustCompile(`_FVH`)
)

// longest is more than any of them matches.
const longest = 128

func (m *Image) seabios() (bool, error) {
	version, ok, err := isSeaBIOS(m.all)
	if !ok || err != nil {
		return false, err
	}
	m.Kind, m.Version = SeaBIOS, version
	m.propose(ProfileSeaBIOS, MachineI440FX, "SeaBIOS boots on i440fx and on q35")
	return true, nil
}

// isSeaBIOS reads what open gives twice: for the banner, and for the version.
func isSeaBIOS[R io.Reader](open func() R) (version string, ok bool, err error) {
	if _, ok, err = scan.First(open(), seabiosBanner, longest); !ok || err != nil {
		return "", false, err
	}
	hit, found, err := scan.First(open(), seabiosVersion, longest)
	if found {
		version = string(hit.Groups[0])
	}
	return version, true, err
}

func (m *Image) uboot() (bool, error) {
	hit, ok, err := scan.First(m.all(), ubootBanner, longest)
	if !ok || err != nil {
		return false, err
	}
	m.Kind, m.Version = UBoot, string(hit.Groups[0])
	m.propose(ProfileUBoot, MachineI440FX, "U-Boot's board for QEMU is i440fx; on q35 it hangs in its IDE driver")
	return true, nil
}

// optionROM knows the header of the PCI Firmware Specification 3.3, 5.1.1: 55 aa, the length in units of 512 bytes, and a sum
// of 0 over that length.
func (m *Image) optionROM() (bool, error) {
	var header [3]byte
	if n, err := m.rom.ReadAt(header[:], 0); n < len(header) {
		return false, err
	}
	length := int64(header[2]) * smallest
	if binary.LittleEndian.Uint16(header[:]) != 0xaa55 || length == 0 || length > m.Size {
		return false, nil
	}
	code := make([]byte, length)
	if n, err := m.rom.ReadAt(code, 0); n < len(code) && !errors.Is(err, io.EOF) {
		return false, err
	}
	sum := byte(0)
	for _, b := range code {
		sum += b
	}
	if sum != 0 {
		return false, nil
	}
	m.Kind = OptionROM
	m.propose("", "", "an option ROM is a card's, and no machine starts with it")
	return true, nil
}

func (m *Image) unknown() (bool, error) {
	m.Kind = Unknown
	m.propose("", "", "it has no FMAP, no CBFS, no firmware volume, and names neither SeaBIOS nor U-Boot")
	return true, nil
}
