// Package smoke boots a finished ROM in a fresh virtual machine and says whether it works, from what the machine
// prints. It knows what a healthy boot and the usual damages look like from outside, and it writes the small
// bootable disk that a ROM is asked to start.
//
// It refuses to know how the ROM was built and where it goes afterwards: it takes a path and gives a verdict.
// That QEMU exits with 0 is no verdict at all: a reset under -no-reboot does so too. Only expected lines pass.
package smoke

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// Test is one boot of a ROM, and what its console must show. A zero field means its default.
type Test struct {
	Name    string
	Machine string        // versioned machine type, e.g. pc-q35-6.2
	CPU     string        // default qemu64-v1
	Memory  int64         // bytes, default 256 MiB
	Console string        // "serial" (default) or "debugcon"
	Disk    bool          // attach the bootable test disk
	Expect  []string      // RE2 patterns, each matched by a later line than the one before; at least one
	Forbid  []string      // RE2 patterns that fail the test at once
	Silence time.Duration // longest time without a console byte, default 20 s, stretched by Pace unless the processor sleeps
	Timeout time.Duration // wall time, default 2 min, stretched by Pace
	Pace    vm.Pace       // of the host; 0 stretches nothing
}

// The defaults of a Test.
const (
	DefaultCPU     = "qemu64-v1"
	DefaultMemory  = 256 << 20
	DefaultSilence = 20 * time.Second
	DefaultTimeout = 2 * time.Minute

	Serial   = "serial"
	DebugCon = "debugcon"
)

// Match is a line that met an expectation, and when it came after power-on.
type Match = console.Match

// Verdict is what a test came to, with its evidence.
type Verdict struct {
	Test        string        `json:"test"`
	Pass        bool          `json:"pass"`
	Reason      string        `json:"reason"` // a sentence
	Matches     []Match       `json:"matches"`
	Took        time.Duration `json:"took"`
	Machine     vm.Machine    `json:"machine"` // zero where the ROM alone decided: nothing was started
	ROM         ROM           `json:"rom"`
	ConsoleTail string        `json:"console_tail"`
	Stderr      string        `json:"stderr"`       // QEMU's
	Progress    string        `json:"progress"`     // the last samples of what the machine did; empty after a pass
	Screen      string        `json:"screen"`       // path of a picture of its screen when the test failed; empty if it was gone by then
	CommandLine string        `json:"command_line"` // boots the same by hand; empty where nothing was started
}

// ROM is the file that was booted.
type ROM struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Hint   string `json:"hint,omitempty"` // what looks odd about it; never a verdict by itself
}

// Err is nil after a pass, and a fault of kind Smoke with the verdict's evidence otherwise.
func (v *Verdict) Err() error {
	if v.Pass {
		return nil
	}
	remedy := "look at what came on the console; the command line boots the same ROM by hand"
	if v.CommandLine == "" { // the ROM alone decided
		remedy = "look at how the file was made: it is no whole ROM"
	}
	return fault.New(fault.Smoke, "smoke test "+v.Test, "%s", v.Reason).
		WithRemedy("%s", remedy).
		WithEvidence("console, last lines", v.ConsoleTail).
		WithEvidence("QEMU's stderr", v.Stderr).
		WithEvidence("its progress", v.Progress).
		WithEvidence("its screen", v.Screen).
		WithEvidence("run it by hand", v.CommandLine)
}

func (t Test) withDefaults() Test {
	if t.CPU == "" {
		t.CPU = DefaultCPU
	}
	if t.Memory == 0 {
		t.Memory = DefaultMemory
	}
	if t.Console == "" {
		t.Console = Serial
	}
	if t.Silence == 0 {
		t.Silence = DefaultSilence
	}
	if t.Timeout == 0 {
		t.Timeout = DefaultTimeout
	}
	return t
}

// script compiles the test for a console. It refuses a test that could not tell a good ROM from a bad one.
func (t Test) script() (console.Script, error) {
	s := console.Script{Silence: t.Pace.Of(t.Silence), Timeout: t.Pace.Of(t.Timeout)}
	var odd []error
	compile := func(field string, patterns []string) (all []*regexp.Regexp) {
		for i, p := range patterns {
			re, err := regexp.Compile(p)
			if err != nil {
				odd = append(odd, fmt.Errorf("%s[%d]: %w (escape the characters . ( ) [ ] + * ? | with a backslash)",
					field, i, err))
			}
			all = append(all, re)
		}
		return all
	}
	s.Expect, s.Forbid = compile("expect", t.Expect), compile("forbid", t.Forbid)
	if t.Machine == "" {
		odd = append(odd, errors.New("machine: none given, expected a versioned type such as pc-q35-6.2"))
	}
	if t.Console != Serial && t.Console != DebugCon {
		odd = append(odd, fmt.Errorf("console: %q, expected %s or %s", t.Console, Serial, DebugCon))
	}
	if len(t.Expect) == 0 {
		odd = append(odd, errors.New("expect: empty, and a boot that must show nothing proves nothing"))
	}
	if t.Silence < 0 || t.Timeout < 0 {
		odd = append(odd, errors.New("silence, timeout: negative"))
	}
	if len(odd) > 0 {
		return s, fault.New(fault.Input, "smoke test "+t.Name, "%w", errors.Join(odd...))
	}
	return s, nil
}
