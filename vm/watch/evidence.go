package watch

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// The titles of the evidence that every failure of a machine carries, as far as there is any. What a backend's own fault
// says under one of them is not said again.
const (
	consoleTitle  = "console, last lines"
	debugTitle    = "debug console, last lines"
	stderrTitle   = "QEMU's stderr"
	eventsTitle   = "QEMU's events"
	progressTitle = "its progress"
	screenTitle   = "its screen"
	byHandTitle   = "run it by hand"
	asRunTitle    = "as Belljar ran it"
)

// eventLines is how much of the events log is evidence.
const eventLines = 8

// Explain adds to a failure what can be known of the machine: the ends of its logs in its folder dir, its last samples, a
// picture of its screen if it has one, and its command lines. The machine may be gone already.
func (g *Guard) Explain(e *fault.Error, dir string) *fault.Error {
	said := map[string]bool{}
	for _, part := range fault.Chain(e) {
		for _, ev := range part.Evidence {
			said[ev.Title] = true
		}
	}
	add := func(title, text string) {
		if !said[title] {
			e = e.WithEvidence(title, text)
		}
	}
	logs := vm.Logs{Dir: dir}
	add(consoleTitle, logs.Tail(vm.ConsoleLog, vm.TailLines))
	add(debugTitle, logs.Tail(vm.DebugconLog, vm.TailLines))
	add(stderrTitle, logs.Tail(vm.StderrLog, vm.TailLines))
	add(eventsTitle, logs.Tail(vm.EventsLog, eventLines))
	add(progressTitle, g.Samples())
	if !g.mute() { // one that does not answer would only be waited for
		add(screenTitle, Screen(g.guest))
	}
	if x, ok := g.guest.(vm.Explainer); ok {
		add(byHandTitle, x.CommandLine())
	}
	// It differs only in who holds the console, the ports and the monitor, and is as long: where it stands will do.
	if path := filepath.Join(dir, "cmdline"); exists(path) {
		add(asRunTitle, "the first line in "+path)
	}
	return e
}

// screenLimit is how long a picture of the screen may take.
const screenLimit = 5 * time.Second

// Screen writes a picture of the guest's screen into its folder and returns its path; empty if it has no screen or is
// gone.
func Screen(g vm.Guest) string {
	s, ok := g.(vm.Screendumper)
	if !ok {
		return ""
	}
	// A context of its own: what failed may have ended the machine's.
	ctx, cancel := context.WithTimeout(context.Background(), screenLimit)
	defer cancel()
	path, err := s.Screendump(ctx)
	if err != nil {
		return "" // evidence: what there is will do
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
