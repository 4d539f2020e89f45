package smoke

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
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

// tell gives the verdict. The error is for what is no verdict: the host could not read its own log.
func (s story) tell() (pass bool, reason string, err error) {
	if s.broke == nil {
		return true, fmt.Sprintf("%s came within %s", expected(len(s.test.Expect)), seconds(s.saw.Took)), nil
	}
	if errors.Is(s.broke, errFlood) {
		return false, fmt.Sprintf("the console printed more than %d MiB in %s, last %s; %s",
			loudest>>20, seconds(s.saw.Took), s.last(), s.missing()), nil
	}
	broke, ok := errors.AsType[*console.Error](s.broke)
	if !ok {
		return false, "", fault.New(fault.Host, "watch the console", "%w", s.broke)
	}
	switch broke.Cause {
	case console.Forbidden:
		return false, fmt.Sprintf("the console says %s, which this test forbids (pattern %s)",
			quote(broke.Line), quote(broke.Pattern)), nil
	case console.Silent:
		return false, s.silent(broke.After), nil
	case console.TooLate:
		return false, s.late(), nil
	}
	return false, s.ended(), nil
}

func expected(n int) string {
	if n == 1 {
		return "the one expected line"
	}
	return fmt.Sprintf("all %d expected lines", n)
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

// ended tells apart the three ways in which a machine goes away: QEMU's exit code is 0 in the first two.
func (s story) ended() string {
	how := "QEMU died"
	switch {
	case s.end == nil:
		how = "the machine powered itself off"
	case fault.KindOf(s.end) == fault.Guest:
		how = "the machine reset itself"
	}
	return fmt.Sprintf("%s %s after power-on%s; %s", how, seconds(s.saw.Took), s.after(), s.missing())
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
	met := min(len(s.saw.Matches), len(s.test.Expect)-1)
	return fmt.Sprintf("expectation %d of %d never came: %s", met+1, len(s.test.Expect), quote(s.test.Expect[met]))
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
