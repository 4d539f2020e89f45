package smoke

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm/console"
)

// script compiles the test for its consoles. It refuses a test that could not tell a good ROM from a bad one.
func (t Test) script(b *bench) (console.Script, error) {
	s := console.Script{
		Silence: t.Pace.Of(t.Silence), Timeout: t.Pace.Of(t.Timeout), Settle: t.Settle,
		Reset: resetEvent, ResetOn: events, MaxResets: t.reboots(),
	}
	var odd []error
	for i, p := range t.Forbid {
		re, err := regexp.Compile(p)
		if err != nil {
			odd = append(odd, fmt.Errorf("forbid[%d]: %w (escape the characters . ( ) [ ] + * ? | with a backslash)", i, err))
		}
		s.Forbid = append(s.Forbid, re)
	}
	for i, step := range t.all() {
		c, err := step.compile(t, b)
		if err != nil {
			odd = append(odd, fmt.Errorf("step %d: %w", i+1, err))
		}
		s.Steps = append(s.Steps, c)
	}
	if t.Machine == "" {
		odd = append(odd, errors.New("machine: none given, expected a versioned type such as pc-q35-6.2"))
	}
	if t.Console != Serial && t.Console != DebugCon {
		odd = append(odd, fmt.Errorf("console: %q, expected %s or %s", t.Console, Serial, DebugCon))
	}
	if !t.some(Step.waits) {
		odd = append(odd, errors.New("expect: empty, and a boot that must show nothing proves nothing"))
	}
	if t.Disk && t.DiskFile != "" {
		odd = append(odd, errors.New("disk: both the test disk and a file"))
	}
	if t.Silence < 0 || t.Timeout < 0 {
		odd = append(odd, errors.New("silence, timeout: negative"))
	}
	if len(odd) > 0 {
		return s, fault.New(fault.Input, "smoke test "+t.Name, "%w", errors.Join(odd...))
	}
	return s, nil
}
