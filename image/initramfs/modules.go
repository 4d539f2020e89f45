package initramfs

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Wanted are the modules that the guest cannot be without: its disks, its port, its entropy, its file systems, the
// check of its root. The list names what the machine needs; what these need in turn is read from the package. A name
// may be an alias: which module has SHA-256, and whether it is one, differs between kernels. (Debian's has the portable
// one built in. The one for SSSE3 is three times slower than that under emulation, and is left where it is.)
// They come in groups, each of which init loads when it is needed, and beside what does not need it: see groups.
var Wanted = func() (all []string) {
	for _, g := range groups {
		all = append(all, g.wanted...)
	}
	return all
}()

// groups are the lists of an initramfs, in an order in which each needs nothing of those behind it. The disks' needs nothing
// of the root's either, so that the two can be loaded beside each other.
var groups = []struct {
	list   string
	wanted []string
}{
	{"root", []string{"erofs", "overlay", "crypto_sha256", "dm_verity"}},
	{"disks", []string{"virtio_pci", "virtio_blk"}},
	{"ports", []string{"virtio_console", "virtio_rng"}},
	{"scratch", []string{"ext4"}},
}

// parameters are what modules are loaded with. A block device's number otherwise depends on which driver came first, and what a
// build sees must not depend on which of two was quicker: virtio_blk takes the last free one, 254 (block/genhd.c).
var parameters = map[string]string{"dm_mod": "major=253"}

// Drivers are the modules that a disk which boots by itself may need to find itself again: on whichever bus it is.
// A kernel that has one of them not is none the worse for it.
var Drivers = []string{"virtio_scsi", "ata_piix", "ahci", "nvme", "sd_mod", "usb_storage", "xhci_pci"}

// ModInfo is what a module says of itself in its .modinfo section (include/linux/module.h, MODULE_INFO).
type ModInfo struct {
	Name    string
	Depends []string // modules whose symbols it uses
	Soft    []string // modules or aliases it would like to have first (softdep: pre: …)
	Aliases []string // other names it goes by; algorithms above all: crypto-crc32c
}

// ParseModule reads the .modinfo section of a .ko file.
func ParseModule(ko []byte) (ModInfo, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return ModInfo{}, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return ModInfo{}, fmt.Errorf("no .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return ModInfo{}, fmt.Errorf("section .modinfo: %w", err)
	}
	return parseModInfo(data), nil
}

func parseModInfo(data []byte) ModInfo {
	var m ModInfo
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "name":
			m.Name = canonical(value)
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, canonical(d))
				}
			}
		case "alias":
			m.Aliases = append(m.Aliases, canonical(value))
		case "softdep":
			m.Soft = append(m.Soft, softPre(value)...)
		}
	}
	return m
}

// softPre lists the modules of the 'pre:' part of a softdep line (modprobe.d(5)).
func softPre(value string) []string {
	var pre []string
	in := false
	for word := range strings.FieldsSeq(value) {
		switch word {
		case "pre:":
			in = true
		case "post:":
			in = false
		default:
			if in {
				pre = append(pre, canonical(word))
			}
		}
	}
	return pre
}

// canonical is a module's name as the kernel writes it: file names use - and _ as they please.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// ModuleName is the name of the module in a file, whatever its compression.
func ModuleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return canonical(base)
}

// Builtin reads modules.builtin: the modules that are part of the kernel itself, one path a line.
func Builtin(text string) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			set[ModuleName(line)] = true
		}
	}
	return set
}

// BuiltinAliases reads modules.builtin.modinfo: NUL-terminated NAME.KEY=VALUE, of what is part of the kernel itself.
func BuiltinAliases(data []byte) map[string]bool {
	set := map[string]bool{}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		if strings.HasSuffix(key, ".alias") {
			set[canonical(value)] = true
		}
	}
	return set
}

// ParseDep reads modules.dep (depmod(8)): a module's file, a colon, and the files of what it needs, on one line each.
func ParseDep(text string) (map[string][]string, error) {
	deps := map[string][]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: line %d: no colon after the module in %q", n, line)
		}
		name := ModuleName(file)
		deps[name] = nil
		for need := range strings.FieldsSeq(needs) {
			deps[name] = append(deps[name], ModuleName(need))
		}
	}
	return deps, nil
}

// Modules are what LoadOrder chooses from.
type Modules interface {
	// Module is what is known of a module; ok says whether there is one of that name.
	Module(name string) (m ModInfo, ok bool, err error)
	// Alias is the name of a module that goes by that alias too; "" if there is none.
	Alias(alias string) (name string, err error)
	// Builtin says whether that is a part of the kernel itself, by name or alias.
	Builtin(name string) bool
}

// LoadOrder lists the modules to load for wanted, each after all that it needs. A module that is built in needs
// no loading; a hard dependency that is neither there nor built in is an error, a soft one is left out (as
// modprobe does: it may name an implementation that this kernel does not have).
func LoadOrder(wanted []string, have Modules) ([]string, error) {
	o := &orderer{have: have, state: map[string]visited{}}
	for _, name := range wanted {
		name, err := o.find(canonical(name))
		if err == nil {
			err = o.visit(name, []string{"wanted"})
		}
		if err != nil {
			return nil, err
		}
	}
	return o.order, nil
}

// Present leaves out of names what a kernel has not.
func Present(names []string, have Modules) ([]string, error) {
	var present []string
	for _, name := range names {
		_, ok, err := have.Module(canonical(name))
		if err != nil {
			return nil, err
		}
		if ok {
			present = append(present, name)
		}
	}
	return present, nil
}

type visited int

const (
	under visited = iota + 1 // being visited
	done                     // in order
)

type orderer struct {
	have  Modules
	state map[string]visited
	order []string
}

// find is the module that a name or an alias means; the name itself if there is none.
func (o *orderer) find(name string) (string, error) {
	_, ok, err := o.have.Module(name)
	if err != nil || ok || o.have.Builtin(name) {
		return name, err
	}
	to, err := o.have.Alias(name)
	if to == "" {
		to = name
	}
	return to, err
}

func (o *orderer) visit(name string, by []string) error {
	if o.have.Builtin(name) || o.state[name] == done {
		return nil
	}
	if o.state[name] == under {
		return fmt.Errorf("module %s needs itself (%s)", name, strings.Join(by, " → "))
	}
	m, ok, err := o.have.Module(name)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("module %s is neither among the modules nor built in (%s)", name, strings.Join(by, " → "))
	}
	o.state[name] = under
	by = append(slices.Clone(by), name)
	for _, soft := range m.Soft {
		if soft, err = o.find(soft); err != nil {
			return err
		}
		// A soft dependency may lead back here, or nowhere; only a hard one must not.
		if _, ok, err := o.have.Module(soft); err != nil || !ok || o.state[soft] != 0 {
			if err != nil {
				return err
			}
			continue
		}
		if err := o.visit(soft, by); err != nil {
			return err
		}
	}
	for _, d := range m.Depends {
		if err := o.visit(d, by); err != nil {
			return err
		}
	}
	o.state[name] = done
	o.order = append(o.order, name)
	return nil
}

// ByAlias maps each alias to one module. Where several implement the same algorithm the generic one is taken, for
// it runs on every CPU; else the first by name. Aliases with a pattern in them name hardware and are left out.
func ByAlias(have map[string]ModInfo) map[string]string {
	best := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		for _, alias := range have[name].Aliases {
			if strings.ContainsAny(alias, "*?[") {
				continue
			}
			old := best[alias]
			if old == "" || strings.HasSuffix(name, "_generic") && !strings.HasSuffix(old, "_generic") {
				best[alias] = name
			}
		}
	}
	return best
}
