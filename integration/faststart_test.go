package integration

import (
	"os"
	"strings"
	"testing"
)

// A guest from a saved state against one from power-on: what it sees, what it makes, what is random in it.
func TestFastStart(t *testing.T) {
	needMachines(t)
	runScripts(t, "faststart.txtar")
}

// SeaBIOS comes out the same from power-on and from a saved state, in both guests.
func TestSlowFastStart(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("builds everything four times; asked for by BELLJAR_SLOW=1")
	}
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) {
			b := onShared(t)
			build := func(more ...string) string {
				args := []string{"--json", "build", "seabios", "--guest", guest, "--accel", "tcg", "--no-cache", "--out", t.TempDir()}
				o := b.succeed(append(args, more...)...)
				var r struct {
					Artifacts []struct{ SHA256 string }
				}
				o.result(t, &r)
				if fast := strings.Contains(o.stdout, "from saved state"); fast != (len(more) == 0) {
					return ""
				}
				return r.Artifacts[0].SHA256
			}
			cold := build("--cold")
			if cold == "" {
				t.Fatal("--cold began from a saved state")
			}
			// The first may be the first of its kind, and boot from power-on.
			fast := build()
			if fast == "" {
				fast = build()
			}
			if fast != cold {
				t.Errorf("from a saved state %q, from power-on %q", fast, cold)
			}
		})
	}
}
