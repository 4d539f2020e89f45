package pipeline

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
)

// The marks by which a ROM is known: coreboot's CBFS and FMAP (util/cbfstool in its tree), the signature of a UEFI's firmware
// volume (PI specification, volume 3, 3.2.1, at offset 40 of its header), and what U-Boot and SeaBIOS say of themselves.
var (
	cbfsMagic = []byte("LARCHIVE")
	fmapMagic = []byte("__FMAP__")
	fvMagic   = []byte("_FVH")
	uboot     = []byte("U-Boot 20")
	seabios   = []byte("SeaBIOS (version ")
	// nvramGUID is that of the volume with a UEFI's variables (EFI_SYSTEM_NV_DATA_FV_GUID), as it lies in memory.
	nvramGUID = []byte{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50}
)

// sniff is the name of the profile for a ROM, from the outermost container inwards; empty if it is of no known kind.
func sniff(data []byte) string {
	switch {
	case bytes.Contains(data, cbfsMagic) && bytes.Contains(data, fmapMagic):
		return "coreboot"
	case hasVolume(data):
		return "ovmf"
	case bytes.Contains(data, uboot):
		return "u-boot"
	case bytes.Contains(data, seabios):
		return "seabios"
	}
	return ""
}

// hasVolume says whether a firmware volume begins at a multiple of a flash chip's block.
func hasVolume(data []byte) bool {
	const block, signature = 4 << 10, 40
	for at := 0; at+signature+len(fvMagic) <= len(data); at += block {
		if bytes.Equal(data[at+signature:][:len(fvMagic)], fvMagic) {
			return true
		}
	}
	return false
}

// variables finds the variables of a UEFI: a file that was named, or the one beside it that is called as distributions call
// them (OVMF_CODE_4M.fd and OVMF_VARS_4M.fd). A ROM that begins with them needs no other: then it is given as -bios.
func variables(named, rom string, data []byte) (string, error) {
	const guidAt = 16 // in a firmware volume's header
	dir, base := filepath.Split(rom)
	plain := strings.SplitN(base, ".", 2)[0] + ".fd" // without .secboot, .ms
	switch {
	case named != "":
		return named, nil
	case len(data) > guidAt+len(nvramGUID) && bytes.Equal(data[guidAt:][:len(nvramGUID)], nvramGUID):
		return "", nil
	}
	for _, name := range []string{base, plain} {
		beside := filepath.Join(dir, strings.Replace(name, "CODE", "VARS", 1))
		if info, err := os.Stat(beside); name != filepath.Base(beside) && err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	return "", fault.New(fault.Input, "find UEFI variables", "%s", fmt.Sprintf("%s holds code alone, and no file of variables lies "+
		"beside it", rom)).WithRemedy("name their file with --vars, such as OVMF_VARS_4M.fd")
}
