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
		{"all in order", []after{now("SeaBIOS (version 1)\nBooting from Hard Disk...\nhello\n")}, Script{Expect: boot}, "", "",
			[]string{"SeaBIOS (version 1)", "Booting from Hard Disk...", "hello"}},
		{"whole lines are quoted, however they arrive",
			[]after{now("SeaBIOS (ver"), {20 * ms, "sion 1) and more\n"}, now("Booting from disk\nhel"), {10 * ms, "lo world\n"}},
			Script{Expect: boot}, "", "", []string{"SeaBIOS (version 1) and more", "Booting from disk", "hello world"}},
		{"a prompt has no line end", []after{now("start\nlogin: "), open}, Script{Expect: patterns("start", "login: ?$"), Timeout: 5 * time.Second},
			"", "", []string{"start", "login:"}},
		{"each on a later line", []after{now("a b\n")}, Script{Expect: patterns("a", "b")}, Ended, "b", []string{"a b"}},
		{"wrong order", []after{now("two\none\n")}, Script{Expect: patterns("one", "two")}, Ended, "two", []string{"one"}},
		{"forbidden", []after{now("fine\nKernel panic - not syncing: x\nhello\n")}, Script{Expect: patterns("hello"), Forbid: LinuxFaults},
			Forbidden, "hello", nil},
		{"forbidden after the last expectation comes too late", []after{now("hello\nOops: 0\n")},
			Script{Expect: patterns("hello"), Forbid: LinuxFaults}, "", "", []string{"hello"}},
		{"nothing at all", []after{open}, Script{Expect: boot, Silence: 50 * ms}, Silent, `SeaBIOS \(version`, nil},
		{"silence after a while", []after{now("SeaBIOS (version 1)\n"), open}, Script{Expect: boot, Silence: 150 * ms}, Silent, "Booting from",
			[]string{"SeaBIOS (version 1)"}},
		{"progress keeps the watchdog quiet",
			[]after{{60 * ms, "."}, {60 * ms, "."}, {60 * ms, "."}, {60 * ms, "."}, {60 * ms, "hello\n"}},
			Script{Expect: patterns("hello"), Silence: 200 * ms}, "", "", []string{".....hello"[1:]}},
		{"but the time limit holds", []after{{40 * ms, "."}, {40 * ms, "."}, {40 * ms, "."}, {40 * ms, "."}, open},
			Script{Expect: patterns("hello"), Silence: 5 * time.Second, Timeout: 100 * ms}, TooLate, "hello", nil},
		{"the machine ends", []after{now("SeaBIOS (version 1)\n")}, Script{Expect: boot}, Ended, "Booting from", []string{"SeaBIOS (version 1)"}},
		{"a last line without end counts", []after{now("hello")}, Script{Expect: patterns("hello")}, "", "", []string{"hello"}},
		{"one reset is allowed", []after{now("bios\nbios\nhello\n")}, Script{Expect: patterns("hello"), Reset: regexp.MustCompile("bios"), MaxResets: 1},
			"", "", []string{"hello"}},
		{"a reset loop is not", []after{now("bios\nbios\nbios\nhello\n")},
			Script{Expect: patterns("hello"), Reset: regexp.MustCompile("bios"), MaxResets: 1}, ResetLoop, "hello", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.script.Timeout == 0 {
				c.script.Timeout = 30 * time.Second
			}
			got, err := Watch(t.Context(), play(t, c.pieces...), c.script)
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
				if m.Pattern != c.script.Expect[i].String() || m.At <= 0 || m.At > got.Took || m.Number < 1 {
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
	got, err := Watch(t.Context(), strings.NewReader(text), Script{Expect: patterns("never")})
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
	if _, err := Watch(ctx, play(t, open), Script{Expect: patterns("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// A script without an expectation would pass anything.
func TestWatchEmptyScript(t *testing.T) {
	if _, err := Watch(t.Context(), strings.NewReader("x\n"), Script{}); err == nil {
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
