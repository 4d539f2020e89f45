package provision

import (
	"bytes"
	"strings"
)

// lines cuts a log into lines and remembers the last ones.
type lines struct {
	each func(string)
	part []byte
	kept [20]string
	n    int // lines so far
}

// maxLine is where a line without an end is cut all the same.
const maxLine = 64 << 10

func newLines(each func(string)) *lines {
	if each == nil {
		each = func(string) {}
	}
	return &lines{each: each}
}

func (l *lines) add(p []byte) {
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		switch {
		case i >= 0:
			l.line(l.part[:i])
			l.part = l.part[i+1:]
		case len(l.part) >= maxLine:
			l.line(l.part[:maxLine])
			l.part = l.part[maxLine:]
		default:
			return
		}
	}
}

func (l *lines) line(b []byte) {
	s := strings.ToValidUTF8(strings.TrimRight(string(b), "\r"), "\uFFFD")
	l.kept[l.n%len(l.kept)] = s
	l.n++
	l.each(s)
}

// flush makes a line of what has no end.
func (l *lines) flush() {
	if len(l.part) > 0 {
		l.line(l.part)
		l.part = nil
	}
}

func (l *lines) last() string {
	var b strings.Builder
	for i := max(0, l.n-len(l.kept)); i < l.n; i++ {
		b.WriteString(l.kept[i%len(l.kept)])
		b.WriteByte('\n')
	}
	return b.String()
}
