package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm/console"
)

// The logs in a machine's folder, whichever backend runs it.
const (
	ConsoleLog  = "console.log"  // the first serial port
	DebugconLog = "debugcon.log" // the debug console, if the machine has one
	StderrLog   = "stderr.log"   // what QEMU itself says
	EventsLog   = "events.log"   // an Event a line, in JSON
)

var allLogs = []string{ConsoleLog, DebugconLog, StderrLog, EventsLog}

// Logs are a machine's, in its folder.
type Logs struct {
	Dir   string
	Until <-chan struct{} // closed when nothing more will come
}

// Create makes them, empty, before the machine runs: so readers never have to wait for a file.
func (l Logs) Create() error {
	for _, name := range allLogs {
		if err := os.WriteFile(filepath.Join(l.Dir, name), nil, 0o644); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	return nil
}

// Append opens one for writing behind what is there.
func (l Logs) Append(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(l.Dir, name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return f, nil
}

// Log reads one from its beginning, as Console does: console, debugcon, stderr, events.
func (l Logs) Log(name string) (io.ReadCloser, error) {
	for _, file := range allLogs {
		if file == name+".log" {
			return Follow(filepath.Join(l.Dir, file), l.Until)
		}
	}
	return nil, fault.New(fault.Usage, "log "+name, "no such log: want console, debugcon, stderr or events")
}

// Console reads the serial console from power-on.
func (l Logs) Console() io.ReadCloser {
	r, err := Follow(filepath.Join(l.Dir, ConsoleLog), l.Until)
	if err != nil {
		return io.NopCloser(failing{err})
	}
	return r
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Said is how many bytes have come on the consoles.
func (l Logs) Said() (n int64) {
	for _, name := range []string{ConsoleLog, DebugconLog} {
		if info, err := os.Stat(filepath.Join(l.Dir, name)); err == nil {
			n += info.Size()
		}
	}
	return n
}

// tailBytes bounds what is read of a log for its tail: a line without an end is no reason to read all.
const tailBytes = 64 << 10

// TailLines is how many lines of a log go into an error as evidence.
const TailLines = 20

// Tail is the last n lines of a log, such that a terminal can show them; empty if there is no such file.
func (l Logs) Tail(name string, n int) string {
	f, err := os.Open(filepath.Join(l.Dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd) // a longer way to the same end
	}
	t := console.NewTail(n)
	_ = console.Lines(context.Background(), f, t.Add) // what could be read will do
	return strings.TrimRight(t.String(), "\n")
}
