package integration

import (
	"os"
	"testing"
	"time"
)

// The shipped coreboots are built in both guests, boot, are the same from either, and are those of docs/roms.md.
func TestSlowCoreboot(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("fetches and builds coreboot four times; asked for by BELLJAR_SLOW=1")
	}
	known, err := os.ReadFile("../docs/roms.md")
	must(t, err)
	for _, spec := range []string{"roms/coreboot-qemu-i440fx", "roms/coreboot-qemu-q35"} {
		t.Run(spec, func(t *testing.T) {
			b := onShared(t)
			b.succeed("fetch", spec)
			digests := map[string]string{}
			for _, guest := range []string{guest64, guest32} {
				var r built
				o := b.succeed("build", spec, "--guest", guest, "--json")
				o.result(t, &r)
				t.Logf("%s: cached %v, under %s, took %s", guest, r.Cached, r.Accel, o.took.Round(time.Second))
				digests[guest] = digestOf(t, r.Artifacts[0].Path)
				contains(t, "docs/roms.md", string(known), "`"+digests[guest]+"`")
				contains(t, "belljar rom", b.succeed("rom", r.Artifacts[0].Path).stdout, "coreboot 4.15-belljar", "payload    SeaBIOS 1.16.2-belljar")
			}
			if digests[guest64] != digests[guest32] {
				t.Errorf("the guests do not agree: %v", digests)
			}
		})
	}
}
