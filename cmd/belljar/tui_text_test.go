package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestTidy(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "cc -c a.c", "cc -c a.c"},
		{"colours", "\x1b[1;31merror\x1b[0m: x", "error: x"},
		{"clear screen and title", "\x1b[2J\x1b]0;owned\x07text\x1bc", "text"},
		{"title ended by ST", "\x1b]2;owned\x1b\\text", "text"},
		{"device control string", "\x1bPq#0\x1b\\text", "text"},
		{"character set", "\x1b(Btext", "text"},
		{"unfinished", "text\x1b[12", "text"},
		{"lone escape", "text\x1b", "text"},
		{"escape before UTF-8", "\x1b–x", "–x"},
		{"C1 control", "a\u009b31mb", "a31mb"},
		{"overwritten", "10%\r50%\r100%\r\n", "100%"},
		{"several lines", "one\ntwo\n", "one two"},
		{"tabs", "a\tb", "a       b"},
		{"bell and backspace", "a\a\bb", "ab"},
		{"direction override", "a\u202eb", "ab"},
		{"line separator", "a\u2028b", "ab"},
		{"bad UTF-8", "a\xffb", "a\ufffdb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tidy(tt.in); got != tt.want {
				t.Errorf("tidy(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzTidy(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07x", "a\tb\rc", "\xff\x1b\u009b", "\u202e宽\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := tidy(s)
		if !utf8.ValidString(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		if i := strings.IndexFunc(got, unicode.IsControl); i >= 0 {
			t.Fatalf("control character left in %q", got)
		}
		for _, w := range []int{0, 1, 2, 3, 10} {
			if c := (style{utf8: true}).cut(got, w); columns(c) > w {
				t.Fatalf("cut(%q, %d) = %q: %d columns", got, w, c, columns(c))
			}
		}
	})
}

func TestCut(t *testing.T) {
	tests := []struct {
		name, in string
		st       style
		width    int
		want     string
	}{
		{"fits", "abc", style{}, 3, "abc"},
		{"ASCII", "abcdefgh", style{}, 6, "abc..."},
		{"UTF-8", "abcdéfgh", style{utf8: true}, 6, "abcdé…"},
		{"wide letters", "宽宽宽宽", style{utf8: true}, 6, "宽宽…"},
		{"no room for the mark", "abcdefgh", style{}, 2, "ab"},
		{"no room", "abc", style{utf8: true}, 0, ""},
		{"less than none", "abc", style{utf8: true}, -5, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.st.cut(tt.in, tt.width); got != tt.want {
				t.Errorf("cut(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
			}
		})
	}
}

func TestTexts(t *testing.T) {
	tests := []struct{ name, got, want string }{
		{"bytes", bytesText(1023), "1023 B"},
		{"one KiB", bytesText(1024), "1 KiB"},
		{"KiB", bytesText(1536), "1.5 KiB"},
		{"nearly a MiB", bytesText(1<<20 - 1), "1 MiB"},
		{"GiB", bytesText(5 << 30), "5 GiB"},
		{"nothing", took(0), "0.00s"},
		{"seconds", took(4200 * time.Millisecond), "4.2s"},
		{"nearly a minute", took(59960 * time.Millisecond), "1m00s"},
		{"minutes", took(62 * time.Second), "1m02s"},
		{"hours", took(62*time.Minute + 31*time.Second), "1h03m"},
		{"clock", elapsed(4900 * time.Millisecond), "4s"},
		{"clock of minutes", elapsed(61900 * time.Millisecond), "1m01s"},
		{"one", plural(1, "run"), "1 run"},
		{"many", plural(int64(0), "run"), "0 runs"},
		{"ASCII locale", style{}.plain("fünf → …"), "f?nf -> ..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("%q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestLineWriter(t *testing.T) {
	var lines []string
	w := &lineWriter{line: func(s string) { lines = append(lines, s) }}
	for _, s := range []string{"one\ntw", "o\n\nthr", "ee"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	w.flush()
	w.flush()
	if got := strings.Join(lines, "|"); got != "one|two||three" {
		t.Errorf("lines %q", got)
	}
	lines = nil
	_, _ = w.Write([]byte(strings.Repeat("x", longestLine+1)))
	if len(lines) != 1 {
		t.Errorf("a line without end was held back: %d pieces", len(lines))
	}
}

func TestUTF8Locale(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"nothing set", nil, false},
		{"LANG", map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{"LC_ALL wins", map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{"spelt otherwise", map[string]string{"LC_CTYPE": "C.utf8"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := utf8Locale(func(k string) string { return tt.env[k] }); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
