package integration

import (
	"os"
	"testing"
)

// dpkg --audit and dpkg --verify are clean in the shipped guests.
func TestSlowDpkg(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("boots both guests; asked for by BELLJAR_SLOW=1")
	}
	runScripts(t, "slow-dpkg.txtar")
}
