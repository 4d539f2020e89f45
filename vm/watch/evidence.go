package watch

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
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

// How much of each log is evidence.
const (
	consoleLines = 20
	stderrLines  = 20
	eventLines   = 8
)

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
	add(consoleTitle, tail(filepath.Join(dir, "console.log"), consoleLines))
	add(debugTitle, tail(filepath.Join(dir, "debugcon.log"), consoleLines))
	add(stderrTitle, tail(filepath.Join(dir, "stderr.log"), stderrLines))
	add(eventsTitle, tail(filepath.Join(dir, "events.log"), eventLines))
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

// tail is the last n lines of a log, without control characters; empty if there is no such file.
func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = f.Seek(-64<<10, io.SeekEnd) // a shorter tail is no reason to show none
	}
	t := console.NewTail(n)
	_ = console.Lines(context.Background(), f, t.Add)
	return t.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
