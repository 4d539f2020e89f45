package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// fakeTerminal understands just what live writes (ECMA-48: CUU, EL, ED, SGR) and is strict about the rest.
// It never scrolls: as many rows as it takes.
type fakeTerminal struct {
	width, height int
	rows          [][]rune
	row, col      int
	writes        int
	trouble       []string // what a real terminal would have shown wrongly
}

var control = regexp.MustCompile(`^\x1b\[([0-9;]*)([A-Za-z])`)

func (t *fakeTerminal) size() (int, int) { return t.width, t.height }

func (t *fakeTerminal) Write(p []byte) (int, error) {
	t.writes++
	for s := string(p); s != ""; {
		if m := control.FindStringSubmatch(s); m != nil {
			t.control(m[1], m[2])
			s = s[len(m[0]):]
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		switch {
		case r == '\r':
			t.col = 0
		case r == '\n':
			t.row++
		case r < ' ', r == 0x7f:
			t.trouble = append(t.trouble, fmt.Sprintf("control character %q", r))
		default:
			t.put(r)
		}
	}
	return len(p), nil
}

func (t *fakeTerminal) control(arg, final string) {
	switch final {
	case "A":
		n, _ := strconv.Atoi(arg)
		if t.row -= n; t.row < 0 {
			t.trouble = append(t.trouble, "cursor above the first row")
			t.row = 0
		}
	case "K":
		line := t.line()
		if t.col < len(*line) {
			*line = (*line)[:t.col]
		}
	case "J":
		t.control("", "K")
		t.rows = t.rows[:t.row+1]
	case "m":
	default:
		t.trouble = append(t.trouble, "unknown sequence "+arg+final)
	}
}

func (t *fakeTerminal) line() *[]rune {
	for len(t.rows) <= t.row {
		t.rows = append(t.rows, nil)
	}
	return &t.rows[t.row]
}

func (t *fakeTerminal) put(r rune) {
	if t.col+runeWidth(r) > t.width {
		t.row, t.col = t.row+1, 0
	}
	line := t.line()
	for len(*line) <= t.col {
		*line = append(*line, ' ')
	}
	(*line)[t.col] = r
	t.col += max(1, runeWidth(r))
}

func (t *fakeTerminal) String() string {
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(strings.TrimRight(string(row), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
