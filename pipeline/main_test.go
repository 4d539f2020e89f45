package pipeline

import (
	"os"
	"testing"

	"github.com/belljar/belljar/vm/supervise"
)

// TestMain: a test that boots a machine starts this program again as the machine's supervisor.
func TestMain(m *testing.M) {
	supervise.Main()
	os.Exit(m.Run())
}
