package smoke

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// story is what is known of a boot once its watch is over. It makes the sentence that a person reads first, who may
// never have seen the test.
type story struct {
	test  Test
	saw   console.Result
	broke error  // Watch's error; nil when every expectation was met
	doing string // what the processor did while the console was silent; empty if that is not known
	end   error  // what the guest's Wait said, where the machine ended before the test did
}

// passed says whether every step was done, and the machine did not fall over afterwards.
func (s story) passed() bool { return s.broke == nil && fault.KindOf(s.end) != fault.Guest }

// tell gives the verdict. The error is for what is no verdict: the host could not read its own log.
func (s story) tell() (pass bool, reason string, err error) {
	switch {
	case s.passed():
		return true, fmt.Sprintf("%s came within %s", s.expected(), seconds(s.saw.Took)), nil
	case s.broke == nil:
		return false, fmt.Sprintf("%s came, and then %s", s.expected(), s.how()), nil
	case errors.Is(s.broke, errFlood):
		return false, fmt.Sprintf("the console printed more than %d MiB in %s, last %s; %s",
			loudest>>20, seconds(s.saw.Took), s.last(), s.missing()), nil
	}
	broke, ok := errors.AsType[*console.Error](s.broke)
	if !ok {
		if fault.KindOf(s.broke) != fault.Unknown {
			return false, "", s.broke
		}
		return false, "", fault.New(fault.Host, "watch the console", "%w", s.broke)
	}
	switch broke.Cause {
	case console.Forbidden:
		return false, fmt.Sprintf("the console says %s, which this test forbids (pattern %s)%s",
			quote(broke.Line), quote(broke.Pattern), s.tooLate()), nil
	case console.Silent:
		return false, s.silent(broke.After), nil
	case console.TooLate:
		return false, s.late(), nil
	case console.StepLate:
		return false, fmt.Sprintf("%s passed while the machine was still running, last %s; %s",
			seconds(broke.After), orNothing(s.last()), s.missing()), nil
	case console.ResetLoop:
		return false, fmt.Sprintf("the machine reset itself once more than the test lets it (%d), last %s; %s",
			s.test.reboots(), orNothing(s.last()), s.missing()), nil
	case console.Different:
		return false, broke.Line, nil
	}
	return false, s.ended(), nil
}

// expected counts the steps; one that only expects lines says so.
func (s story) expected() string {
	n, what := len(s.test.all()), "expected line"
	if s.test.some(func(step Step) bool { return step.Expect == "" && step.Text == "" }) {
		what = "step"
	}
	if n == 1 {
		return "the one " + what
	}
	return fmt.Sprintf("all %d %ss", n, what)
}

// tooLate says that what went wrong did so after all had gone well.
func (s story) tooLate() string {
	if len(s.saw.Matches) == len(s.test.all()) {
		return ", after all that it expects had come"
	}
	return ""
}

func orNothing(last string) string {
	if last == "" {
		return "nothing"
	}
	return last
}

func (s story) silent(after time.Duration) string {
	doing := ""
	if s.doing != "" {
		doing = " (" + s.doing + ")"
	}
	switch {
	case s.saw.Bytes == 0:
		return fmt.Sprintf("nothing at all came on the %s console in %s%s: "+
			"the ROM's first code does not run, or it prints elsewhere", s.test.Console, seconds(after), doing)
	case s.last() == "":
		return fmt.Sprintf("the boot stopped: %d bytes came on the %s console, none of them text, "+
			"and then nothing for %s%s; %s",
			s.saw.Bytes, s.test.Console, seconds(after), doing, s.missing())
	}
	return fmt.Sprintf("the boot stopped: nothing came for %s after %s%s; %s",
		seconds(after), s.last(), doing, s.missing())
}

func (s story) late() string {
	if s.saw.Bytes == 0 { // the timeout is shorter than the silence
		return fmt.Sprintf("nothing at all came on the %s console in %s, which is all the time the test has",
			s.test.Console, seconds(s.test.Pace.Of(s.test.Timeout)))
	}
	return fmt.Sprintf("the test's %s passed while the console was still printing, last %s; %s",
		seconds(s.test.Pace.Of(s.test.Timeout)), s.last(), s.missing())
}

// ended says how and when the machine went away before its test was done.
func (s story) ended() string {
	return fmt.Sprintf("%s %s after power-on%s; %s", s.how(), seconds(s.saw.Took), s.after(), s.missing())
}

// how tells apart the ways in which a machine goes away: QEMU's exit code is 0 in the first and the last.
func (s story) how() string {
	switch {
	case s.end == nil:
		return "the machine powered itself off"
	case errors.Is(s.end, vm.ErrPanicked):
		return "the kernel that it booted panicked"
	case fault.KindOf(s.end) == fault.Guest:
		return "the machine reset itself"
	}
	return "QEMU died"
}

func (s story) after() string {
	if last := s.last(); last != "" {
		return ", after " + last
	}
	return ", before a line was printed"
}

// last is the last line with something on it; empty if there is none.
func (s story) last() string {
	for i := len(s.saw.Tail) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(s.saw.Tail[i]); line != "" {
			return quote(line)
		}
	}
	return ""
}

func (s story) missing() string {
	all := s.test.all()
	met := min(len(s.saw.Matches), len(all)-1)
	step, kind := all[met], "step"
	if step.Expect != "" || step.Text != "" {
		kind = "expectation"
	}
	text := fmt.Sprintf("%s %d of %d never came: %s", kind, met+1, len(all), quote(step.String()))
	if step.Note != "" {
		text += " (" + step.Note + ")"
	}
	return text
}

// quote keeps a line short enough for a sentence.
func quote(s string) string {
	const longest = 160
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return "‘" + s + "’"
}

// seconds prints a time as people say it.
func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}

// loudest is far more than any boot prints. The log is a file on the host's disk, and a ROM must not fill that.
const loudest = 64 << 20

var errFlood = errors.New("the console printed too much")

// limited ends a console that prints too much.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errFlood
	}
	n, err := l.ReadCloser.Read(p)
	l.left -= int64(n)
	return n, err
}
