package vm

import (
	"errors"
	"fmt"
	"time"

	"github.com/belljar/belljar/fault"
)

// Event is something that QEMU said of the machine: an event of its monitor (QMP, qapi/run-state.json in QEMU's tree).
type Event struct {
	Name string         `json:"event"`
	At   time.Time      `json:"at"`
	Data map[string]any `json:"data,omitempty"`
}

// Reason is the cause in SHUTDOWN's and RESET's data: qapi/run-state.json, ShutdownCause (since QEMU 4.0).
func (e Event) Reason() string {
	s, _ := e.Data["reason"].(string)
	return s
}

// ByGuest is the field 'guest' of the same events: whether the guest or the host caused it.
func (e Event) ByGuest() bool {
	b, _ := e.Data["guest"].(bool)
	return b
}

// CountResets is how often the guest has reset the machine.
func CountResets(events []Event) int {
	n := 0
	for _, e := range events {
		if e.Name == "RESET" && e.ByGuest() {
			n++
		}
	}
	return n
}

// Ending is all that is known of a machine's end but how its process ended.
type Ending struct {
	Events []Event
	Ended  Ended // how Close went about it; empty if it was not called
	Cause  error // why the machine's context ended it; nil if it did not
}

// Judge turns a machine's end into what Wait answers. QEMU exits with 0 after a guest's shutdown, and just so after a
// reset under -no-reboot: only the event's reason tells them apart. A guest's fault is a *fault.Error, to which the
// backend adds its evidence. Where neither the guest nor Belljar ended the machine, known is false: the process ended
// on its own, and the backend knows more of that.
func Judge(name string, end Ending) (verdict error, known bool) {
	var shutdown Event
	for _, e := range end.Events {
		switch e.Name {
		case "GUEST_PANICKED":
			return panicked(name), true
		case "SHUTDOWN":
			if shutdown.Name == "" { // the first is the cause: libvirt's QEMU waits to be ended after it, and then says so
				shutdown = e
			}
		}
	}
	switch {
	case shutdown.Reason() == "guest-shutdown":
		return nil, true
	case shutdown.Reason() == "guest-panic":
		return panicked(name), true
	case shutdown.ByGuest():
		return fault.New(fault.Guest, "run "+name,
			"the guest reset the machine instead of powering it off (as a kernel does that panics with panic= on its "+
				"command line)"), true
	case end.Cause != nil:
		return fmt.Errorf("run %s: %w", name, end.Cause), true
	case end.Ended != "":
		return nil, true // Close was called
	}
	return nil, false
}

// ErrPanicked is the cause of the fault of a machine whose kernel told QEMU that it panicked.
var ErrPanicked = errors.New("the guest's kernel panicked")

func panicked(name string) *fault.Error {
	return fault.New(fault.Guest, "run "+name, "%w", ErrPanicked)
}

// Halted leaves of QEMU's run states (qapi/run-state.json, RunState) those in which a machine that should run does not.
// The others are of a machine that starts, ends, or is being saved and restored.
func Halted(status string) string {
	switch status {
	case "io-error", "internal-error", "paused", "guest-panicked", "watchdog":
		return status
	}
	return ""
}

// NoSpace says whether the host's disk had no room for what the guest wrote: QEMU halts a machine then (werror=enospc is
// its default), and the event says why (qapi/block-core.json, BLOCK_IO_ERROR).
func NoSpace(events []Event) bool {
	for _, e := range events {
		if none, _ := e.Data["nospace"].(bool); none && e.Name == "BLOCK_IO_ERROR" {
			return true
		}
	}
	return false
}
