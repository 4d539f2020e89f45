package console

import (
	"strings"
	"unicode/utf8"
)

// cleaner turns what a serial console sends into plain text, byte by byte, wherever reads cut it: carriage returns,
// ANSI escape sequences (ECMA-48), other control characters and invalid UTF-8 are left out. What remains is safe on a
// terminal.
type cleaner struct {
	state escape
	rune  []byte // an unfinished UTF-8 sequence
	line  []byte
}

type escape int

const (
	text   escape = iota
	esc           // after ESC
	inter         // after ESC and an intermediate byte, as in ESC ( B
	csi           // in ESC [ …, until a byte from @ to ~
	str           // in OSC, DCS, APC, PM or SOS, until BEL or ESC \
	strEsc        // after ESC in such a string
)

// maxLine bounds what a guest that never ends a line may make us hold: a longer line is cut.
const maxLine = 16 << 10

// push takes one byte; full says that it ended the line.
func (c *cleaner) push(b byte) (full bool) {
	switch c.state {
	case esc:
		switch {
		case b == '[':
			c.state = csi
		case b == ']' || b == 'P' || b == '_' || b == '^' || b == 'X':
			c.state = str
		case b >= 0x20 && b <= 0x2f:
			c.state = inter
		case b == '\n':
			return c.end()
		default:
			c.state = text
		}
		return false
	case inter:
		c.state = text
		if b == '\n' {
			return c.end()
		}
		return false
	case csi:
		switch {
		case b == '\n': // a real sequence has none: it was cut off
			return c.end()
		case b >= 0x40 && b <= 0x7e:
			c.state = text
		}
		return false
	case str:
		switch b {
		case 0x07:
			c.state = text
		case 0x1b:
			c.state = strEsc
		case '\n':
			return c.end()
		}
		return false
	case strEsc:
		c.state = text
		if b == '\n' {
			return c.end()
		}
		return false
	}
	return c.plain(b)
}

// plain takes a byte outside of escape sequences.
func (c *cleaner) plain(b byte) (full bool) {
	if b == '\n' {
		return c.end()
	}
	if b < utf8.RuneSelf {
		c.rune = c.rune[:0] // an unfinished sequence before it is invalid
	}
	switch {
	case b == 0x1b:
		c.state = esc
	case b == '\b':
		_, n := utf8.DecodeLastRune(c.line)
		c.line = c.line[:len(c.line)-n]
	case b == '\t' || b >= ' ' && b < 0x7f:
		c.line = append(c.line, b)
	case b >= utf8.RuneSelf:
		c.multi(b)
	}
	if len(c.line) >= maxLine {
		return c.end()
	}
	return false
}

// multi takes a byte of a UTF-8 sequence of several.
func (c *cleaner) multi(b byte) {
	if utf8.RuneStart(b) {
		c.rune = c.rune[:0]
	}
	c.rune = append(c.rune, b)
	if !utf8.FullRune(c.rune) {
		return
	}
	// U+0080 to U+009F are control characters, U+009B among them begins an escape sequence on some terminals.
	if r, _ := utf8.DecodeRune(c.rune); r != utf8.RuneError && r >= 0xa0 {
		c.line = append(c.line, c.rune...)
	}
	c.rune = c.rune[:0]
}

func (c *cleaner) end() bool {
	c.state = text
	c.rune = c.rune[:0]
	return true
}

// take returns the finished line and begins a new one.
func (c *cleaner) take() string {
	s := strings.TrimRight(string(c.line), " \t")
	c.line = c.line[:0]
	return s
}
