package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// style says what a terminal can show.
type style struct {
	colour bool
	utf8   bool
}

// The select graphic rendition parameters (ECMA-48, 8.3.117) that are used.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// span is text in one colour; cutting works on spans, so that it never cuts an escape sequence.
type span struct{ text, sgr string }

// paint puts text into a colour, if there are colours.
func (st style) paint(sgr, text string) string {
	if !st.colour || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// plain makes text fit the locale: without UTF-8, other letters than ASCII become '?'.
func (st style) plain(text string) string {
	if st.utf8 {
		return text
	}
	text = asciiFor.Replace(text)
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, text)
}

var asciiFor = strings.NewReplacer("…", "...", "→", "->", "·", "-", "–", "-", "’", "'")

// join lays spans side by side in at most width columns, and says how many they take.
func (st style) join(width int, spans ...span) (string, int) {
	var b strings.Builder
	used := 0
	for _, s := range spans {
		text := st.cut(st.plain(s.text), width-used)
		used += columns(text)
		b.WriteString(st.paint(s.sgr, text))
	}
	return b.String(), used
}

// tidy makes one line of what some program printed safe to show: no escape sequences, no control or format
// characters (among them those that turn the direction of writing), tabs as spaces, and of a line that was
// overwritten by carriage returns only its last state. Line ends within become spaces.
func tidy(line string) string {
	line = strings.TrimRight(line, "\r\n")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	line = stripEscapes(line)
	var b strings.Builder
	col := 0
	for _, r := range line {
		switch {
		case r == '\n':
			r = ' '
		case r == '\t':
			n := 8 - col%8
			b.WriteString(strings.Repeat(" ", n))
			col += n
			continue
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			continue
		}
		b.WriteRune(r) // an invalid byte ranges as U+FFFD
		col += runeWidth(r)
	}
	return b.String()
}

// stripEscapes removes the sequences of ECMA-48: CSI to its final byte, OSC, DCS and their like to their end
// (ST or BEL), other escapes with their intermediate bytes and the final one.
func stripEscapes(s string) string {
	if !strings.ContainsRune(s, '\x1b') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\x1b' {
			b.WriteByte(s[i])
			i++
			continue
		}
		i = afterEscape(s, i+1)
	}
	return b.String()
}

// afterEscape is the index behind the sequence whose ESC stands before i.
func afterEscape(s string, i int) int {
	if i >= len(s) {
		return i
	}
	switch s[i] {
	case '[':
		for i++; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return i
	case ']', 'P', '^', '_', 'X':
		for i++; i < len(s); i++ {
			if s[i] == '\a' {
				return i + 1
			}
			if s[i] == '\x1b' {
				return afterEscape(s, i+1)
			}
		}
		return i
	}
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// cut shortens text to width columns; what was cut is marked by an ellipsis.
func (st style) cut(text string, width int) string {
	if width <= 0 {
		return ""
	}
	if columns(text) <= width {
		return text
	}
	mark := st.plain("…")
	if columns(mark) > width {
		mark = ""
	}
	room := width - columns(mark)
	for i, r := range text {
		if room -= runeWidth(r); room < 0 {
			return text[:i] + mark
		}
	}
	return text
}

func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth follows Unicode's UAX #11 in the large: marks take no column, the blocks of wide letters take two.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Me, r), unicode.Is(unicode.Cf, r):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// pad fills text with spaces to width columns.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-columns(text)))
}

// bytesText is a size in binary units with three digits or so.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[i:i+1] + "iB"
}

// took is a duration as people say it: 0.12s, 4.2s, 1m02s, 1h02m.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// elapsed is took for a clock that runs: whole seconds, so that it does not flicker.
func elapsed(d time.Duration) string {
	if d = d.Truncate(time.Second); d < time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return took(d)
}

// lineWriter hands on whole lines. A line longer than its limit is handed on in pieces.
type lineWriter struct {
	line func(string)
	buf  []byte
}

const longestLine = 64 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 && len(w.buf) < longestLine {
			return len(p), nil
		}
		if i < 0 {
			w.line(string(w.buf))
			w.buf = w.buf[:0]
			return len(p), nil
		}
		w.line(string(w.buf[:i]))
		w.buf = w.buf[i+1:]
	}
}

func (w *lineWriter) flush() {
	if len(w.buf) > 0 {
		w.line(string(w.buf))
		w.buf = nil
	}
}

// plural is 'n thing' or 'n things'.
func plural[T int | int64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
