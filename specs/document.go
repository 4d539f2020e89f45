package specs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belljar/belljar/fault"
)

// position is a place in a document; lines and columns count from 1, columns in runes.
type position struct{ line, column int }

// problem is one thing that is wrong with a document.
type problem struct {
	at   position
	path string // of the object, as in stages[0].needs[1]; may be empty
	text string
}

// document is a file's text and what was found to be wrong with it. It collects, so that one call reports every
// mistake.
type document struct {
	file     string
	op       string // 'read spec'
	remedy   string
	data     []byte
	problems []problem
}

// maxProblems is how many mistakes one report shows; more only bury the first.
const maxProblems = 10

func (d *document) errorf(at position, path, format string, args ...any) {
	d.problems = append(d.problems, problem{at, path, fmt.Sprintf(format, args...)})
}

// err is the report, in the order of the file; nil if nothing is wrong.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	first := d.problems[0]
	more := ""
	if n := len(d.problems) - 1; n == 1 {
		more = " (and 1 more mistake)"
	} else if n > 1 {
		more = fmt.Sprintf(" (and %d more mistakes)", n)
	}
	e := fault.New(fault.Input, d.op, "%s%s", d.line(first), more)
	if d.remedy != "" {
		e = e.WithRemedy("%s", d.remedy)
	}
	for i, p := range d.problems {
		if i == maxProblems {
			break
		}
		e = e.WithEvidence(d.line(p), d.excerpt(p.at))
	}
	return e
}

func (d *document) line(p problem) string {
	where := fmt.Sprintf("%s:%d:%d: ", d.file, p.at.line, p.at.column)
	if p.path != "" {
		where += p.path + ": "
	}
	return visible(where + p.text)
}

// excerptWidth is how much of a long line is shown around the place in question.
const excerptWidth = 120

// excerpt is the line at p with the two before it, numbered, and a caret under the column.
func (d *document) excerpt(p position) string {
	lines := strings.Split(string(d.data), "\n")
	if p.line < 1 || p.line > len(lines) {
		return ""
	}
	// The caret stands under a rune of the printed line, in which every rune is one column wide.
	width := utf8.RuneCountInString(lines[p.line-1])
	column := min(max(p.column, 1), width+1)
	from := 0
	if width > excerptWidth {
		from = max(0, column-excerptWidth/2)
	}
	var b strings.Builder
	for n := max(1, p.line-2); n <= p.line; n++ {
		mark := " "
		if n == p.line {
			mark = ">"
		}
		fmt.Fprintf(&b, "%s %4d | %s\n", mark, n, window(printable(lines[n-1]), from))
	}
	fmt.Fprintf(&b, "       | %s^", strings.Repeat(" ", column-1-from))
	return b.String()
}

// window is the part of a line that an excerpt shows.
func window(line string, from int) string {
	runes := []rune(line)
	runes = runes[min(from, len(runes)):]
	return string(runes[:min(excerptWidth, len(runes))])
}

// printable keeps a line's width and takes from it what could move a terminal's cursor.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if control(r) {
			return ' '
		}
		return r
	}, line)
}

// visible writes out what could move a terminal's cursor.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if control(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func control(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }

// positionAt turns an offset in bytes into a line and a column.
func (d *document) positionAt(offset int64) position {
	before := d.data[:min(max(offset, 0), int64(len(d.data)))]
	line := strings.Count(string(before), "\n") + 1
	return position{line, utf8.RuneCount(before[strings.LastIndexByte(string(before), '\n')+1:]) + 1}
}
