package qemu

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
	"github.com/belljar/belljar/vm/supervise"
)

// tailBytes is how much of a log goes into an error as evidence.
const (
	tailBytes = 4096
	tailLines = 20
)

// decide turns QEMU's end and its events into Wait's answer.
func (g *guest) decide(exit supervise.Exit) error {
	g.mu.Lock()
	end := vm.Ending{Events: g.seen, Ended: g.ended, Cause: g.cause}
	g.mu.Unlock()
	err, known := vm.Judge(g.name, end)
	if !known {
		return g.died(exit)
	}
	if e, ok := err.(*fault.Error); ok { //nolint:errorlint // a fault in the context's cause has its own evidence
		return g.evidence(e)
	}
	return err
}

// died is the fault of a QEMU that ended for no reason that the guest or Belljar gave.
func (g *guest) died(exit supervise.Exit) error {
	err := fault.New(fault.Host, "run "+g.name, "QEMU ended on its own: %s", exit)
	if line := lastLine(g.tail(stderrLog)); line != "" {
		err = fault.New(fault.Host, "run "+g.name, "QEMU ended on its own: %s: %s", exit, line)
	}
	if exit.Signal == 9 && !exit.Lost {
		err = err.WithRemedy("look into the host's kernel log (dmesg) whether it ran out of memory")
	}
	return g.evidence(err)
}

// evidence adds what each side printed, and how to see it again.
func (g *guest) evidence(err *fault.Error) *fault.Error {
	if g.confined != nil && strings.Contains(g.tail(stderrLog), "ermission denied") {
		err = err.WithEvidence("what QEMU may open", g.confined.given())
	}
	return err.
		WithEvidence("console, last lines", lastLines(g.tail(consoleLog), tailLines)).
		WithEvidence("QEMU's stderr", g.tail(stderrLog)).
		WithEvidence("run it by hand", g.command)
}

// tail reads the end of a log.
func (g *guest) tail(name string) string {
	f, err := os.Open(filepath.Join(g.dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, tailBytes)
	n, _ := f.ReadAt(buf, max(0, info.Size()-tailBytes))
	return console.Clean(string(buf[:n])) // it will be shown on a terminal
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func lastLine(s string) string { return strings.TrimSpace(lastLines(s, 1)) }
