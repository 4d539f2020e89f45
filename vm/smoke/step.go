package smoke

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// Step is one thing that a test waits for, does or looks at, in its turn. Exactly one of the fields up to Judge is set.
type Step struct {
	Expect     string    // wait for a line that this RE2 pattern matches
	Text       string    // wait for a line that holds this text
	Send       string    // type this on the serial console
	Keys       []string  // press these on the keyboard: see vm.Keyboard
	Reboot     bool      // wait until the machine resets itself
	PowerOff   bool      // wait until it powers itself off
	Screenshot string    // take a picture of the screen; the name of its file, without .png
	PCR        *PCR      // look at a PCR of the TPM
	EventLog   *EventLog // look at what was measured into a PCR
	QMP        string    // one of vm.MonitorCommands
	Judge      *Judge    // have all that was measured judged

	On     string        // with Expect and Text: "serial" or "debugcon", where it is not the test's console
	Within time.Duration // since the step before, stretched by Pace; 0: the test's timeout
	Note   string        // what it proves, for people
}

// PCR is a register's golden value.
type PCR struct {
	Bank  string // sha1, sha256, sha384, sha512
	Index int
	Value []byte // empty: whatever it is, it stands in the verdict
}

// EventLog is all that must have been measured into a PCR, in order.
type EventLog struct {
	Bank   string
	Index  int
	Events []Event
}

// Event is one measurement.
type Event struct {
	Name   string // what is measured, for people
	Digest []byte
}

// events is the source of the monitor's events. Their log has an event a line, as JSON with sorted keys (vm.Event).
const events = "events"

var (
	resetEvent    = regexp.MustCompile(`"event":"RESET"`)
	shutdownEvent = regexp.MustCompile(`"event":"SHUTDOWN".*"reason":"guest-shutdown"`)
)

// String says in a few words what the step is.
func (s Step) String() string {
	switch {
	case s.Expect != "":
		return s.Expect
	case s.Text != "":
		return s.Text
	case s.Send != "":
		return fmt.Sprintf("send %q", s.Send)
	case len(s.Keys) > 0:
		return "press " + strings.Join(s.Keys, " ")
	case s.Reboot:
		return "reboot"
	case s.PowerOff:
		return "power-off"
	case s.Screenshot != "":
		return "screenshot " + s.Screenshot
	case s.PCR != nil:
		return fmt.Sprintf("PCR %d (%s)", s.PCR.Index, s.PCR.Bank)
	case s.EventLog != nil:
		return fmt.Sprintf("event log of PCR %d (%s)", s.EventLog.Index, s.EventLog.Bank)
	case s.QMP != "":
		return "qmp " + s.QMP
	case s.Judge != nil:
		return s.Judge.Name
	}
	return "nothing"
}

// waits says whether the step waits for the machine, which is a proof that it works; the others only act or look.
func (s Step) waits() bool { return s.Expect != "" || s.Text != "" || s.Reboot || s.PowerOff }

// kinds counts which of the exclusive fields are set.
func (s Step) kinds() int {
	n := 0
	for _, set := range []bool{s.Expect != "", s.Text != "", s.Send != "", len(s.Keys) > 0, s.Reboot, s.PowerOff,
		s.Screenshot != "", s.PCR != nil, s.EventLog != nil, s.QMP != "", s.Judge != nil} {
		if set {
			n++
		}
	}
	return n
}

// compile makes a console's step of it. What it does, it does on the bench.
func (s Step) compile(t Test, b *bench) (console.Step, error) {
	c := console.Step{Name: s.String(), On: s.On, Within: t.Pace.Of(s.Within)}
	if c.On == "" {
		c.On = t.Console
	}
	if n := s.kinds(); n != 1 {
		return c, fmt.Errorf("a step is one thing, and this one is %d", n)
	}
	switch {
	case s.Expect != "":
		re, err := regexp.Compile(s.Expect)
		if err != nil {
			return c, fmt.Errorf("%w (escape the characters . ( ) [ ] + * ? | with a backslash)", err)
		}
		c.Expect = re
	case s.Text != "":
		c.Expect = regexp.MustCompile(regexp.QuoteMeta(s.Text))
	case s.Reboot:
		c.Expect, c.On = resetEvent, events
	case s.PowerOff:
		c.Expect, c.On = shutdownEvent, events
	case s.Screenshot != "" && t.Headless:
		return c, errors.New("a screenshot: the machine has no screen: leave headless out")
	default:
		if s.QMP != "" && vm.MonitorCommands[s.QMP] == "" {
			return c, fmt.Errorf("the monitor command %q is not one of those that a test may give", s.QMP)
		}
		c.Do = b.do(s)
	}
	if !slices.Contains([]string{Serial, DebugCon, events}, c.On) {
		return c, fmt.Errorf("console: %q, expected %s or %s", s.On, Serial, DebugCon)
	}
	return c, nil
}

// all are the test's steps: those of its short form, then the others.
func (t Test) all() []Step {
	var steps []Step
	for _, p := range t.Expect {
		steps = append(steps, Step{Expect: p})
	}
	return append(steps, t.Steps...)
}

// some says whether any step is such.
func (t Test) some(such func(Step) bool) bool { return slices.ContainsFunc(t.all(), such) }

// reboots is how often the test lets the machine reset.
func (t Test) reboots() int {
	n := 0
	for _, s := range t.all() {
		if s.Reboot {
			n++
		}
	}
	return n
}

// reads says whether the test reads a source.
func (t Test) reads(source string) bool {
	return t.Console == source || t.some(func(s Step) bool {
		return s.On == source || source == events && (s.Reboot || s.PowerOff)
	})
}
