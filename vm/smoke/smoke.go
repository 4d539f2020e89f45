// Package smoke boots a finished ROM in a fresh virtual machine and says whether it works, from what the machine
// prints. It knows what a healthy boot and the usual damages look like from outside, and it writes the small
// bootable disk that a ROM is asked to start.
//
// It refuses to know how the ROM was built and where it goes afterwards: it takes a path and gives a verdict.
// That QEMU exits with 0 is no verdict at all: a reset under -no-reboot does so too. Only expected lines pass.
package smoke

import (
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// Test is one boot of a ROM, and what the machine must show. A zero field means its default.
type Test struct {
	Name     string
	Machine  string        // versioned machine type, e.g. pc-q35-6.2
	CPU      string        // default qemu64-v1
	Memory   int64         // bytes, default 256 MiB
	Console  string        // "serial" (default) or "debugcon": where steps look that do not say it
	Vars     string        // path of a UEFI's variables: the ROM boots from flash, with a copy of them in a second chip
	TPM      vm.TPM        // a fresh TPM of that version
	Headless bool          // no VGA
	Disk     bool          // attach the bootable test disk
	DiskFile string        // path of a disk's image, of which the machine gets a copy
	USBFile  string        // path of a USB stick's image, which the machine cannot write to
	Expect   []string      // RE2 patterns, each matched by a later line than the one before: the short form of Steps
	Steps    []Step        // what follows, in order; with Expect, at least one waits for something
	Forbid   []string      // RE2 patterns that fail the test at once
	Silence  time.Duration // longest time without a console byte, default 20 s, stretched by Pace unless the processor sleeps
	Timeout  time.Duration // wall time, default 2 min, stretched by Pace
	Settle   time.Duration // how long what is forbidden must stay away after the last step, default 1 s; negative: not at all
	Pace     vm.Pace       // of the host; 0 stretches nothing
}

// The defaults of a Test.
const (
	DefaultCPU     = "qemu64-v1"
	DefaultMemory  = 256 << 20
	DefaultSilence = 20 * time.Second
	DefaultTimeout = 2 * time.Minute
	DefaultSettle  = time.Second

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
	Steps       []Outcome     `json:"steps"`
	Matches     []Match       `json:"-"` // the same, as far as it came, for the record
	Took        time.Duration `json:"took_ns"`
	Machine     vm.Machine    `json:"machine"` // zero where the ROM alone decided: nothing was started
	ROM         ROM           `json:"rom"`
	ConsoleTail string        `json:"console_tail"`
	Stderr      string        `json:"stderr"`       // QEMU's
	Progress    string        `json:"progress"`     // the last samples of what the machine did; empty after a pass
	Screen      string        `json:"screen"`       // path of a picture of its screen when the test failed; empty if it was gone by then
	CommandLine string        `json:"command_line"` // boots the same by hand; empty where nothing was started

	Measured []vm.Extension `json:"measured,omitempty"` // what was measured into the TPM since it was last started
	File     string         `json:"-"`                  // path of the verdict itself, as JSON
}

// Outcome is what came of a step.
type Outcome struct {
	Step string        `json:"step"`
	Note string        `json:"note,omitempty"`
	Pass bool          `json:"pass"`
	Line string        `json:"line,omitempty"` // of the console; or what came of what was done
	At   time.Duration `json:"at_ns,omitempty"`
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
	if t.Settle == 0 {
		t.Settle = DefaultSettle
	}
	return t
}
