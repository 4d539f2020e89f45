package vm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

func TestJudge(t *testing.T) {
	shutdown := func(reason string, guest bool) vm.Event {
		return vm.Event{Name: "SHUTDOWN", Data: map[string]any{"reason": reason, "guest": guest}}
	}
	panicked := vm.Event{Name: "GUEST_PANICKED"}
	cause := errors.New("gave up")
	for _, c := range []struct {
		name   string
		events []vm.Event
		ended  vm.Ended
		cause  error
		known  bool
		kind   fault.Kind
		word   string // in the error; empty wants nil
	}{
		{"shutdown", []vm.Event{shutdown("guest-shutdown", true)}, "", nil, true, 0, ""},
		{"shutdown in the middle of a Close", []vm.Event{shutdown("guest-shutdown", true)}, vm.EndedPowered, nil, true, 0, ""},
		{"shutdown, then ended by libvirt", []vm.Event{shutdown("guest-shutdown", true), shutdown("host-signal", false)}, "", nil, true, 0, ""},
		{"reset under -no-reboot, then ended by libvirt", []vm.Event{shutdown("guest-reset", true), shutdown("host-signal", false)}, "", nil, true, fault.Guest, "reset"},
		{"reset under -no-reboot", []vm.Event{shutdown("guest-reset", true)}, "", nil, true, fault.Guest, "reset"},
		{"panic", []vm.Event{panicked, shutdown("guest-panic", true)}, "", nil, true, fault.Guest, "panicked"},
		{"panic without its own event", []vm.Event{shutdown("guest-panic", true)}, "", nil, true, fault.Guest, "panicked"},
		{"panic, then cancelled", []vm.Event{panicked}, "", cause, true, fault.Guest, "panicked"},
		{"closed by quit", []vm.Event{shutdown("host-qmp-quit", false)}, vm.EndedQuit, nil, true, 0, ""},
		{"closed by kill", nil, vm.EndedKilled, nil, true, 0, ""},
		{"cancelled", nil, "", cause, true, 0, "gave up"},
		{"somebody's SIGTERM", []vm.Event{shutdown("host-signal", false)}, "", nil, false, 0, ""},
		{"no event", nil, "", nil, false, 0, ""},
		{"data of another shape", []vm.Event{{Name: "SHUTDOWN", Data: map[string]any{"reason": 1, "guest": "yes"}}}, "", nil, false, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err, known := vm.Judge("x", vm.Ending{Events: c.events, Ended: c.ended, Cause: c.cause})
			if known != c.known {
				t.Errorf("known %t, want %t", known, c.known)
			}
			switch {
			case c.word == "" && err != nil:
				t.Errorf("%v, want nil", err)
			case c.word != "" && (err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.word)):
				t.Errorf("%v (%s), want a %s with %q", err, fault.KindOf(err), c.kind, c.word)
			}
		})
	}
}

func TestCountResets(t *testing.T) {
	reset := func(guest bool) vm.Event { return vm.Event{Name: "RESET", Data: map[string]any{"guest": guest}} }
	if n := vm.CountResets([]vm.Event{reset(true), reset(false), {Name: "STOP"}, reset(true)}); n != 2 {
		t.Errorf("%d resets, want 2", n)
	}
}

func TestHalted(t *testing.T) {
	for status, want := range map[string]string{
		"running": "", "prelaunch": "", "shutdown": "", "paused": "paused", "io-error": "io-error", "internal-error": "internal-error",
	} {
		if got := vm.Halted(status); got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
	}
}

func TestNoSpace(t *testing.T) {
	failed := func(nospace bool) vm.Event {
		return vm.Event{Name: "BLOCK_IO_ERROR", Data: map[string]any{"nospace": nospace}}
	}
	if vm.NoSpace([]vm.Event{failed(false), {Name: "STOP"}}) || !vm.NoSpace([]vm.Event{failed(true), {Name: "STOP"}}) {
		t.Error("a full disk is not told from another error")
	}
}
