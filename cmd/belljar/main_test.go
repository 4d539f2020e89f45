package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain makes the test binary five programs: the tests, belljar itself, belljar with a fake pipeline, a maker of packages and
// one of ROMs.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"belljar": main, "fake": fakeMain, "pack": packMain, "mkrom": mkromMain})
}

// TestScripts runs the command line's behaviour as it stands in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir+"/home")
			e.Setenv("TERM", "xterm-256color")
			e.Setenv("LC_ALL", "C.UTF-8")
			e.Setenv("TZ", "UTC")
			return nil
		},
	})
}
