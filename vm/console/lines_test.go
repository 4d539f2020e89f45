package console

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func lines(t *testing.T, r io.Reader) []string {
	t.Helper()
	var all []string
	if err := Lines(t.Context(), r, func(l string) { all = append(all, l) }); err != nil {
		t.Fatal(err)
	}
	return all
}

var cleaning = []struct {
	name, in string
	want     []string
}{
	{"plain", "a\nb\n", []string{"a", "b"}},
	{"no end", "a\nb", []string{"a", "b"}},
	{"empty lines stay", "a\n\n\nb\n", []string{"a", "", "", "b"}},
	{"carriage returns", "a\r\nb\r\r\n", []string{"a", "b"}},
	{"colours", "\x1b[1;31mred\x1b[0m plain\n", []string{"red plain"}},
	{"SeaBIOS' screen", "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)\r\n", []string{"SeaBIOS (version 1.16.2)"}},
	{"window title", "\x1b]0;title\x07text\x1b]2;x\x1b\\more\n", []string{"textmore"}},
	{"character set", "\x1b(Btext\n", []string{"text"}},
	{"a cut sequence ends with its line", "a\x1b[31\nb\x1b]0;t\nc\n", []string{"a", "b", "c"}},
	{"backspace", "ab\b\bc\b\b\bü\bd\n", []string{"d"}},
	{"control characters", "a\x00\x01\x7fb\tc\n", []string{"ab\tc"}},
	{"C1 control characters", "a\u009b31mb\n", []string{"a31mb"}},
	{"UTF-8", "grüße, 世界\n", []string{"grüße, 世界"}},
	{"invalid UTF-8", "a\xffb\xc3(\xe4\xb8c\n", []string{"ab(c"}},
	{"trailing blanks", "a  \t \n", []string{"a"}},
}

func TestLines(t *testing.T) {
	for _, c := range cleaning {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, lines(t, strings.NewReader(c.in))); diff != "" {
				t.Error(diff)
			}
			// However the bytes arrive, the lines are the same.
			if diff := cmp.Diff(c.want, lines(t, iotest.OneByteReader(strings.NewReader(c.in)))); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

func TestLongLineIsCut(t *testing.T) {
	got := lines(t, strings.NewReader(strings.Repeat("x", maxLine+5)))
	if len(got) != 2 || len(got[0]) != maxLine || got[1] != "xxxxx" {
		t.Errorf("%d lines, want one of %d bytes and one of 5", len(got), maxLine)
	}
}

func TestLinesEndsWithItsContext(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = w.Write([]byte("first\nsecond"))
		cancel()
	}()
	var got []string
	err := Lines(ctx, r, func(l string) { got = append(got, l) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if diff := cmp.Diff([]string{"first", "second"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinesPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	err := Lines(t.Context(), io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(broken)), func(string) {})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestTail(t *testing.T) {
	tail := NewTail(3)
	if tail.Last() != "" || len(tail.Lines()) != 0 {
		t.Error("a new tail is not empty")
	}
	for i, want := range []string{"a", "a\nb", "a\nb\nc", "b\nc\nd", "c\nd\ne"} {
		tail.Add(string(rune('a' + i)))
		if got := tail.String(); got != want {
			t.Errorf("after %d lines: %q, want %q", i+1, got, want)
		}
	}
	if tail.Last() != "e" {
		t.Errorf("last %q, want e", tail.Last())
	}
}

// FuzzLines: whatever comes, lines are printable, valid, bounded, and do not depend on how reads cut the bytes.
func FuzzLines(f *testing.F) {
	for _, c := range cleaning {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := lines(t, strings.NewReader(string(in)))
		for _, l := range whole {
			if !utf8.ValidString(l) || len(l) > maxLine+utf8.UTFMax {
				t.Errorf("line of %d bytes, valid %v", len(l), utf8.ValidString(l))
			}
			for _, r := range l {
				if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
					t.Errorf("control character %U in %q", r, l)
				}
			}
		}
		if bytewise := lines(t, iotest.OneByteReader(strings.NewReader(string(in)))); !slices.Equal(whole, bytewise) {
			t.Errorf("byte by byte: %q, whole: %q", bytewise, whole)
		}
		// Cleaning what is clean changes nothing.
		once := Clean(string(in))
		if twice := Clean(once); once != twice {
			t.Errorf("cleaned twice: %q, once: %q", twice, once)
		}
	})
}
