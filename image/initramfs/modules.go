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

// Wanted are the modules that the guest cannot be without: its disks, its port, its entropy, its file systems.
// The list names what the machine needs; what these need in turn is read from the modules themselves.
var Wanted = []string{"virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "erofs", "overlay", "ext4"}

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

// LoadOrder lists the modules to load for wanted, each after all that it needs. A module that is built in needs
// no loading; a hard dependency that is neither there nor built in is an error, a soft one is left out (as
// modprobe does: it may name an implementation that this kernel does not have).
func LoadOrder(wanted []string, have map[string]ModInfo, builtin map[string]bool) ([]string, error) {
	var order []string
	aliases := byAlias(have)
	state := map[string]int{} // 1: being visited, 2: in order
	var visit func(name string, by []string) error
	visit = func(name string, by []string) error {
		if builtin[name] || state[name] == 2 {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("module %s needs itself (%s)", name, strings.Join(by, " → "))
		}
		m, ok := have[name]
		if !ok {
			return fmt.Errorf("module %s is neither among the modules nor built in (%s)", name, strings.Join(by, " → "))
		}
		state[name] = 1
		by = append(slices.Clone(by), name)
		for _, soft := range m.Soft {
			if _, ok := have[soft]; !ok {
				soft = aliases[soft]
			}
			// A soft dependency may lead back here; only a hard one must not.
			if soft != "" && state[soft] == 0 {
				if err := visit(soft, by); err != nil {
					return err
				}
			}
		}
		for _, d := range m.Depends {
			if err := visit(d, by); err != nil {
				return err
			}
		}
		state[name] = 2
		order = append(order, name)
		return nil
	}
	for _, name := range wanted {
		if err := visit(canonical(name), []string{"wanted"}); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// byAlias maps each alias to one module. Where several implement the same algorithm the generic one is taken, for
// it runs on every CPU; else the first by name. Aliases with a pattern in them name hardware and are left out.
func byAlias(have map[string]ModInfo) map[string]string {
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
