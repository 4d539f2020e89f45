package console

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

func patterns(all ...string) []*regexp.Regexp {
	var res []*regexp.Regexp
	for _, p := range all {
		res = append(res, regexp.MustCompile(p))
	}
	return res
}

// after is a piece of a console and the pause before it.
type after struct {
	pause time.Duration
	text  string
}

// play is a console that says its pieces; it stays open if the last one is empty.
func play(t *testing.T, pieces ...after) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	go func() {
		for _, p := range pieces {
			time.Sleep(p.pause)
			if p.text == "" {
				return
			}
			_, _ = io.WriteString(w, p.text)
		}
		w.Close()
	}()
	return r
}

func now(text string) after { return after{text: text} }

var open = after{} // the console stays open, and silent

func TestWatch(t *testing.T) {
	const ms = time.Millisecond
	boot := patterns(`SeaBIOS \(version`, `Booting from`, `hello`)
	for _, c := range []struct {
		name    string
		pieces  []after
		script  Script
		cause   Cause  // empty: it passes
		missing string // the expectation that was waited for
		matches []string
	}{
		{"all in order", []after{now("SeaBIOS (version 1)\nBooting from Hard Disk...\nhello\n")}, Script{Steps: Expectations(boot...)}, "", "",
			[]string{"SeaBIOS (version 1)", "Booting from Hard Disk...", "hello"}},
		{"whole lines are quoted, however they arrive",
			[]after{now("SeaBIOS (ver"), {20 * ms, "sion 1) and more\n"}, now("Booting from disk\nhel"), {10 * ms, "lo world\n"}},
			Script{Steps: Expectations(boot...)}, "", "", []string{"SeaBIOS (version 1) and more", "Booting from disk", "hello world"}},
		{"a prompt has no line end", []after{now("start\nlogin: "), open}, Script{Steps: Expectations(patterns("start", "login: ?$")...), Timeout: 5 * time.Second},
			"", "", []string{"start", "login:"}},
		{"each on a later line", []after{now("a b\n")}, Script{Steps: Expectations(patterns("a", "b")...)}, Ended, "b", []string{"a b"}},
		{"wrong order", []after{now("two\none\n")}, Script{Steps: Expectations(patterns("one", "two")...)}, Ended, "two", []string{"one"}},
		{"forbidden", []after{now("fine\nKernel panic - not syncing: x\nhello\n")}, Script{Steps: Expectations(patterns("hello")...), Forbid: LinuxFaults},
			Forbidden, "hello", nil},
		{"forbidden after the last step", []after{now("hello\n"), {30 * ms, "Oops: 0\n"}, open},
			Script{Steps: Expectations(patterns("hello")...), Forbid: LinuxFaults, Settle: 5 * time.Second}, Forbidden, "", []string{"hello"}},
		{"forbidden after the last step has settled comes too late", []after{now("hello\n"), {300 * ms, "Oops: 0\n"}},
			Script{Steps: Expectations(patterns("hello")...), Forbid: LinuxFaults, Settle: 20 * ms}, "", "", []string{"hello"}},
		{"forbidden at the end of the machine", []after{now("hello\nOops: 0")},
			Script{Steps: Expectations(patterns("hello")...), Forbid: LinuxFaults, Settle: 5 * time.Second}, Forbidden, "", []string{"hello"}},
		{"a step has its own time", []after{now("one\n"), {20 * ms, "."}, open},
			Script{Steps: []Step{{Name: "one", Expect: regexp.MustCompile("one")}, {Name: "two", Expect: regexp.MustCompile("two"), Within: 80 * ms}}},
			StepLate, "two", []string{"one"}},
		{"nothing at all", []after{open}, Script{Steps: Expectations(boot...), Silence: 50 * ms}, Silent, `SeaBIOS \(version`, nil},
		{"silence after a while", []after{now("SeaBIOS (version 1)\n"), open}, Script{Steps: Expectations(boot...), Silence: 150 * ms}, Silent, "Booting from",
			[]string{"SeaBIOS (version 1)"}},
		{"progress keeps the watchdog quiet",
			[]after{{60 * ms, "."}, {60 * ms, "."}, {60 * ms, "."}, {60 * ms, "."}, {60 * ms, "hello\n"}},
			Script{Steps: Expectations(patterns("hello")...), Silence: 200 * ms}, "", "", []string{".....hello"[1:]}},
		{"but the time limit holds", []after{{40 * ms, "."}, {40 * ms, "."}, {40 * ms, "."}, {40 * ms, "."}, open},
			Script{Steps: Expectations(patterns("hello")...), Silence: 5 * time.Second, Timeout: 100 * ms}, TooLate, "hello", nil},
		{"the machine ends", []after{now("SeaBIOS (version 1)\n")}, Script{Steps: Expectations(boot...)}, Ended, "Booting from", []string{"SeaBIOS (version 1)"}},
		{"a last line without end counts", []after{now("hello")}, Script{Steps: Expectations(patterns("hello")...)}, "", "", []string{"hello"}},
		{"two starts are allowed", []after{now("bios\nbios\nhello\n")}, Script{Steps: Expectations(patterns("hello")...), Reset: regexp.MustCompile("bios"), MaxResets: 2},
			"", "", []string{"hello"}},
		{"a reset loop is not", []after{now("bios\nbios\nbios\nhello\n")},
			Script{Steps: Expectations(patterns("hello")...), Reset: regexp.MustCompile("bios"), MaxResets: 2}, ResetLoop, "hello", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.script.Timeout == 0 {
				c.script.Timeout = 30 * time.Second
			}
			got, err := Watch(t.Context(), []Source{{Reader: play(t, c.pieces...)}}, c.script)
			broken, _ := errors.AsType[*Error](err)
			switch {
			case c.cause == "" && err != nil:
				t.Fatalf("watch: %v (tail %q)", err, got.Tail)
			case c.cause != "" && (broken == nil || broken.Cause != c.cause || broken.Missing != c.missing):
				t.Fatalf("watch: %#v, want cause %s, missing %q", err, c.cause, c.missing)
			}
			var lines []string
			for i, m := range got.Matches {
				lines = append(lines, m.Line)
				if m.Pattern != c.script.Steps[i].Name || m.At <= 0 || m.At > got.Took || m.Number < 1 {
					t.Errorf("match %+v", m)
				}
			}
			if strings.Join(lines, "|") != strings.Join(c.matches, "|") {
				t.Errorf("matched %q, want %q", lines, c.matches)
			}
		})
	}
}

func TestWatchTail(t *testing.T) {
	text := strings.Repeat("line\n", 30) + "half a li"
	got, err := Watch(t.Context(), []Source{{Reader: strings.NewReader(text)}}, Script{Steps: Expectations(patterns("never")...)})
	if err == nil || len(got.Tail) != tailSize || got.Tail[tailSize-1] != "half a li" {
		t.Errorf("error %v, tail of %d lines: %q", err, len(got.Tail), got.Tail)
	}
	if got.Lines != 30 || got.Bytes != int64(len(text)) {
		t.Errorf("%d lines, %d bytes", got.Lines, got.Bytes)
	}
}

func TestWatchContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := Watch(ctx, []Source{{Reader: play(t, open)}}, Script{Steps: Expectations(patterns("x")...)}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// A script without an expectation would pass anything.
func TestWatchEmptyScript(t *testing.T) {
	if _, err := Watch(t.Context(), []Source{{Reader: strings.NewReader("x\n")}}, Script{}); err == nil {
		t.Error("an empty script passed")
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]Error{
		`forbidden line "BUG: x" (matches /BUG/) while waiting for /hello/`:       {Cause: Forbidden, Pattern: "BUG", Line: "BUG: x", Missing: "hello"},
		`the console said nothing at all for 20s while waiting for /hello/`:       {Cause: Silent, After: 20 * time.Second, Missing: "hello"},
		`the console fell silent for 20s while waiting for /hello/`:               {Cause: Silent, After: 20 * time.Second, Missing: "hello", Bytes: 1},
		`the time limit of 2m0s passed while waiting for /hello/`:                 {Cause: TooLate, After: 2 * time.Minute, Missing: "hello"},
		`the machine ended after 1.23s while waiting for /hello/`:                 {Cause: Ended, After: 1234 * time.Millisecond, Missing: "hello"},
		`the machine started over again and again ("bios") while waiting for /x/`: {Cause: ResetLoop, Line: "bios", Missing: "x"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Steps look on several sources, and do things in between, each in its turn.
func TestWatchSteps(t *testing.T) {
	answer, said := io.Pipe()
	events, event := io.Pipe()
	defer said.Close()
	defer event.Close()
	go io.WriteString(said, "boot: ")
	script := Script{Timeout: 10 * time.Second, Forbid: patterns("RESET"), Steps: []Step{
		{Name: "prompt", Expect: regexp.MustCompile("boot: $")},
		{Name: "type", Do: func(context.Context) (string, error) {
			go func() {
				io.WriteString(event, "RESET\n") // is forbidden on consoles alone
				io.WriteString(said, "boot: x\nboot: ")
			}()
			return "typed x", nil
		}},
		{Name: "reset", On: "events", Expect: regexp.MustCompile("RESET")},
		{Name: "again", Expect: regexp.MustCompile("boot: $")},
	}}
	got, err := Watch(t.Context(), []Source{{Name: "serial", Reader: answer}, {Name: "events", Reader: events, Aside: true}}, script)
	if err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	want := []Match{{Pattern: "prompt", Line: "boot:", Number: 1}, {Pattern: "type", Line: "typed x"},
		{Pattern: "reset", On: "events", Line: "RESET", Number: 1}, {Pattern: "again", Line: "boot:", Number: 2}}
	for i, m := range got.Matches {
		if m.At = 0; m != want[i] {
			t.Errorf("step %d: %+v, want %+v", i, m, want[i])
		}
	}
}

func TestWatchDiffers(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		cause Cause
	}{{"a finding", &Differs{"PCR 2 differs"}, Different}, {"a fault", io.ErrNoProgress, ""}} {
		steps := append(Expectations(patterns("x")...), Step{Name: "look", Do: func(context.Context) (string, error) { return "", c.err }})
		_, err := Watch(t.Context(), []Source{{Reader: strings.NewReader("x\n")}}, Script{Steps: steps})
		broken, _ := errors.AsType[*Error](err)
		if c.cause == "" && !errors.Is(err, c.err) || c.cause != "" && (broken == nil || broken.Cause != c.cause || broken.Line != c.err.Error()) {
			t.Errorf("%s: %#v", c.name, err)
		}
	}
}

// What cannot be meant is refused before anything is read.
func TestWatchRefuses(t *testing.T) {
	expect := Expectations(patterns("x")...)
	for name, steps := range map[string][]Step{
		"waits for nothing":  append(expect, Step{Name: "empty"}),
		"which is not there": append(expect, Step{Name: "y", Expect: regexp.MustCompile("y"), On: "debugcon"}),
	} {
		_, err := Watch(t.Context(), []Source{{Name: "serial", Reader: strings.NewReader("x\n")}}, Script{Steps: steps})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error with %q", err, name)
		}
	}
}
