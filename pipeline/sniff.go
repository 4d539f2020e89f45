package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom"
	"github.com/belljar/belljar/rom/uefi"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm/smoke"
)

// profileLinuxBoot asks for what Heads shows, and everything else with a Linux as coreboot's payload does too. What a ROM
// looks like does not tell those apart.
const profileLinuxBoot = "linuxboot"

// romFile is a ROM file and what it is.
type romFile struct {
	path  string
	named bool // as the reference
	data  []byte
	*rom.Image
}

// largestROM is more than any machine takes.
const largestROM = 64 << 20

// readROM reads a ROM file and looks at it. What cannot be a ROM has no Image.
func readROM(path string) (romFile, error) {
	r := romFile{path: path}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return r, fault.New(fault.Input, "read ROM", "%w", err)
	case !info.Mode().IsRegular():
		return r, fault.New(fault.Input, "read ROM", "%s is not a file", path)
	case info.Size() > largestROM:
		return r, fault.New(fault.Input, "read ROM", "%s has %d bytes: no machine has room for that", path, info.Size())
	}
	if r.data, err = os.ReadFile(path); err != nil {
		return r, fault.New(fault.Host, "read ROM", "%w", err)
	}
	r.Image, err = rom.Open(bytes.NewReader(r.data), int64(len(r.data)))
	if fault.KindOf(err) == fault.Input { // it is for a profile or a pattern to judge
		r.Image, err = nil, nil
	}
	return r, err
}

// looksLike is the name of the profile for it, and why. The error, of kind Input, is for what no profile is for.
func (r romFile) looksLike() (profile, why string, err error) {
	switch {
	case r.Image == nil:
		return "", "", r.unknown(smoke.Unfit(r.data, filepath.Base(r.path)))
	case r.Profile == rom.ProfileHeads:
		return profileLinuxBoot, r.Why, nil
	case r.Profile == "":
		if why := smoke.Unfit(r.data, filepath.Base(r.path)); why != "" {
			return "", "", r.unknown(why)
		}
		return "", "", r.unknown("no profile is for " + r.path + ": " + r.Why)
	}
	return r.Profile, r.Why, nil
}

func (r romFile) unknown(why string) error {
	return fault.New(fault.Input, "look at the ROM", "%s", why).
		WithRemedy("if it is a ROM all the same, name a profile with --profile (%s), or what it has to print with --expect",
			strings.Join(specs.Profiles(), ", "))
}

// variables finds the variables of a UEFI: a file that was named, or the one beside it that is called as distributions call
// them (OVMF_CODE_4M.fd and OVMF_VARS_4M.fd). A ROM that begins with them needs no other: then it is given as -bios.
func (r romFile) variables(named string) (string, error) {
	dir, base := filepath.Split(r.path)
	plain := strings.SplitN(base, ".", 2)[0] + ".fd" // without .secboot, .ms
	switch {
	case named != "":
		return named, nil
	case r.Image != nil && len(r.Volumes) > 0 && r.Volumes[0].Offset == 0 && r.Volumes[0].Holds == uefi.Variables:
		return "", nil
	}
	for _, name := range []string{base, plain} {
		beside := filepath.Join(dir, strings.Replace(name, "CODE", "VARS", 1))
		if info, err := os.Stat(beside); name != filepath.Base(beside) && err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	return "", fault.New(fault.Input, "find UEFI variables", "%s holds code alone, and no file of variables lies beside it", r.path).
		WithRemedy("name their file with --vars, such as OVMF_VARS_4M.fd")
}
