package specs

import (
	"slices"
	"strings"
	"time"
)

// arches are the values of Guest.Arch.
var arches = []string{ArchX86_64, ArchI686}

func (c checker) machine(path []any, m string) {
	c.match(path, m, machineSyntax,
		"a machine type with a version, like pc-q35-6.2: without it, QEMU's next release is another machine")
}

func (c checker) cpu(path []any, cpu string) {
	switch cpu {
	case "host", "max":
		c.fail(path, "%q is another CPU on every host: name a model with a version, like Nehalem-v1", cpu)
	default:
		c.match(path, cpu, cpuSyntax, "a CPU model with a version, like Nehalem-v1")
	}
}

// size checks a disk's or a machine's size: QEMU and the disk formats want whole MiB.
func (c checker) size(path []any, s, least Size) {
	switch {
	case s < least:
		c.fail(path, "%s is too little: at least %s", s, least)
	case s%MiB != 0:
		c.fail(path, "%s is not a multiple of 1MiB", s)
	}
}

// The bounds of a guest's clock: before 1980 file formats (ZIP, FAT) end; after the other, a signed 32-bit time_t does.
var (
	clockFirst = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	clockLast  = time.Date(2038, 1, 19, 0, 0, 0, 0, time.UTC)
)

// leastMemory is what a guest's kernel and userland boot with.
const leastMemory = 128 * MiB

func (c checker) guest(g *Guest) {
	c.name(at("name"), g.Name)
	if !slices.Contains(arches, g.Arch) {
		c.fail(at("arch"), "there is no architecture %q%s", g.Arch, suggest(g.Arch, arches))
	}
	c.suite(g)
	c.match(at("kernel"), g.Kernel, packageSyntax, "a Debian package name")
	c.packages(at("packages"), g.Packages)
	c.machine(at("machine"), g.Machine)
	c.cpu(at("cpu"), g.CPU)
	c.size(at("memory"), g.Memory, leastMemory)
	c.size(at("scratch"), g.Scratch, 64*MiB)
	if g.CPUs < 1 || g.CPUs > 255 {
		c.fail(at("cpus"), "%d CPUs: from 1 to 255", g.CPUs)
	}
	switch _, offset := g.Clock.Zone(); {
	case offset != 0:
		c.fail(at("clock"), "the clock must be in UTC: end it with Z")
	case g.Clock.Nanosecond() != 0:
		c.fail(at("clock"), "the clock counts whole seconds")
	case g.Clock.Before(clockFirst) || !g.Clock.Before(clockLast):
		c.fail(at("clock"), "the clock must be between %s and %s, where a 32-bit time_t ends",
			clockFirst.Format(time.DateOnly), clockLast.Format(time.DateOnly))
	}
}

// suite checks which suites, and which moment of them, a guest is made from.
func (c checker) suite(g *Guest) {
	c.match(at("suite"), g.Suite, suiteSyntax, "a suite, like bookworm")
	for suffix, how := range map[string]string{
		"-security": " and add `security: true`", "-updates": " and add `updates: true`", "-backports": "",
	} {
		if release, ok := strings.CutSuffix(g.Suite, suffix); ok {
			c.fail(at("suite"), "%s is not a whole suite: write %s%s", g.Suite, release, how)
		}
	}
	if g.Snapshot != "" || c.root.get("snapshot") != nil {
		c.snapshot(at("snapshot"), g.Snapshot)
	}
}

func (c checker) snapshot(path []any, s string) {
	if _, err := time.Parse(snapshotLayout, s); err != nil || !snapshotSyntax.MatchString(s) {
		c.fail(path, "%q is not a moment of snapshot.debian.org, like 20260101T000000Z", s)
	}
}
