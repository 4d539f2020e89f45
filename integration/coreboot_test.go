package integration

import (
	"os"
	"testing"
)

// builtAsDocumented builds a shipped ROM in these guests, where its smoke tests must pass. It must be the same from all of
// them, and the one of docs/roms.md.
func builtAsDocumented(t *testing.T, spec string, guests []string, looks ...string) {
	t.Helper()
	known, err := os.ReadFile("../docs/roms.md")
	must(t, err)
	b := onShared(t)
	digests := map[string]string{}
	for _, guest := range guests {
		path := b.buildROM(spec, "--guest", guest)
		digests[guest] = digestOf(t, path)
		contains(t, "docs/roms.md", string(known), "`"+digests[guest]+"`")
		contains(t, "belljar rom", b.succeed("rom", path).stdout, looks...)
		if digests[guest] != digests[guests[0]] {
			t.Errorf("the guests do not agree: %v", digests)
		}
	}
}

// The shipped coreboots, from both guests.
func TestSlowCoreboot(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("fetches and builds coreboot four times; asked for by BELLJAR_SLOW=1")
	}
	for _, spec := range []string{"roms/coreboot-qemu-i440fx", "roms/coreboot-qemu-q35"} {
		t.Run(spec, func(t *testing.T) {
			builtAsDocumented(t, spec, []string{guest64, guest32}, "coreboot 4.15-belljar", "payload    SeaBIOS 1.16.2-belljar")
		})
	}
}

// The shipped U-Boots, from both guests.
func TestSlowUBoot(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("fetches and builds U-Boot four times; asked for by BELLJAR_SLOW=1")
	}
	for _, spec := range []string{"roms/u-boot-qemu-x86", "roms/u-boot-qemu-x86_64"} {
		t.Run(spec, func(t *testing.T) { builtAsDocumented(t, spec, []string{guest64, guest32}, "u-boot 2023.01") })
	}
}

// The shipped UEFI.
func TestSlowOVMF(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("fetches and builds edk2; asked for by BELLJAR_SLOW=1")
	}
	builtAsDocumented(t, "roms/ovmf-x64", []string{guest64}, "  uefi")
}
