package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Bounds on a control file. The longest line in Debian's indexes (a Provides of a Rust crate) is below 100 kB.
const (
	maxLine      = 4 << 20
	maxParagraph = 16 << 20
	maxFields    = 1000 // of one paragraph
)

// Field is one field of a paragraph. A continuation line begins in Value after a "\n", without its leading blank.
type Field struct {
	Name  string
	Value string
	Line  int
}

// Paragraph is a block of fields, in the order of the file.
type Paragraph struct {
	Fields []Field
	Line   int // of its first field
}

// Get is the value of the field of that name, whatever its case (deb822(5)); "" where there is none.
func (p *Paragraph) Get(name string) string {
	if f := p.Field(name); f != nil {
		return f.Value
	}
	return ""
}

// Field is the field of that name, whatever its case; nil where there is none.
func (p *Paragraph) Field(name string) *Field {
	for i := range p.Fields {
		if strings.EqualFold(p.Fields[i].Name, name) {
			return &p.Fields[i]
		}
	}
	return nil
}

// ParagraphReader reads paragraphs in the format of deb822(5) as a stream: a Packages file is 60 MB long.
type ParagraphReader struct {
	name string
	src  *source
	r    *bufio.Reader
	only map[string]string // lower-case name to the name as asked for; nil keeps all
	line int
	long []byte // a line that is longer than r's buffer
	done error
}

// NewParagraphReader reads r; name stands in errors. Where only lists fields, all others are checked for their form
// but not kept.
func NewParagraphReader(name string, r io.Reader, only ...string) *ParagraphReader {
	src := &source{r: r}
	p := &ParagraphReader{name: name, src: src, r: bufio.NewReaderSize(src, 64<<10)}
	if len(only) > 0 {
		p.only = map[string]string{}
	}
	for _, o := range only {
		p.only[strings.ToLower(o)] = o
	}
	return p
}

// ParseParagraph reads a file that consists of exactly one paragraph, such as a package's control or a Release.
func ParseParagraph(name string, data []byte) (*Paragraph, error) {
	r := NewParagraphReader(name, bytes.NewReader(data))
	p, err := r.Next()
	if errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Input, "read "+name, "it has no field, want one paragraph")
	}
	if err != nil {
		return nil, err
	}
	if more, err := r.Next(); err == nil {
		return nil, fault.New(fault.Input, "read "+name, "line %d: a second paragraph begins, want one", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// Next is the next paragraph, or io.EOF after the last one.
func (r *ParagraphReader) Next() (*Paragraph, error) {
	if r.done != nil {
		return nil, r.done
	}
	p, err := r.next()
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, io.EOF):
		r.done = io.EOF
	case r.src.err != nil:
		r.done = fmt.Errorf("read %s: %w", r.name, r.src.err)
	default:
		r.done = fault.New(fault.Input, "read "+r.name, "line %d: %w", r.line, err)
	}
	return nil, r.done
}

func (r *ParagraphReader) next() (*Paragraph, error) {
	p := &Paragraph{}
	var value *strings.Builder // of a field with continuation lines
	last, size := -1, 0        // last is the field that a continuation line belongs to, -1 where it is not kept
	finish := func() {
		if value != nil {
			p.Fields[last].Value = value.String()
			value = nil
		}
		if last >= 0 { // dpkg keeps blanks at the ends of lines within a value, and trims its end
			p.Fields[last].Value = strings.TrimRight(p.Fields[last].Value, " \t")
		}
	}
	for {
		line, err := r.readLine()
		if errors.Is(err, io.EOF) {
			if p.Line == 0 {
				return nil, io.EOF
			}
			finish()
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		if size += len(line); size > maxParagraph {
			return nil, fmt.Errorf("the paragraph is longer than %d bytes", maxParagraph)
		}
		blank := len(bytes.Trim(line, " \t")) == 0
		switch {
		case blank && p.Line == 0:
			continue
		case blank:
			finish()
			return p, nil
		case line[0] == ' ' || line[0] == '\t':
			if p.Line == 0 {
				return nil, errors.New("a continuation line comes first, want 'Field: value'")
			}
			if last < 0 {
				continue
			}
			if value == nil {
				value = &strings.Builder{}
				value.WriteString(p.Fields[last].Value)
			}
			value.WriteByte('\n')
			value.Write(line[1:])
		default:
			finish()
			if p.Line == 0 {
				p.Line = r.line
			}
			if last, err = r.addField(p, line); err != nil {
				return nil, err
			}
		}
	}
}

// addField parses 'Name: value' and returns the field's place, -1 where it is not kept.
func (r *ParagraphReader) addField(p *Paragraph, line []byte) (int, error) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !validFieldName(line[:colon]) {
		return -1, fmt.Errorf("it reads %.60q, want 'Field: value'", line)
	}
	name := ""
	if r.only != nil {
		asked, ok := r.only[string(bytes.ToLower(line[:colon]))]
		if !ok {
			return -1, nil
		}
		name = asked
	} else {
		name = string(line[:colon])
	}
	if f := p.Field(name); f != nil {
		return -1, fmt.Errorf("the field %s comes twice in one paragraph, first on line %d", name, f.Line)
	}
	if len(p.Fields) >= maxFields {
		return -1, fmt.Errorf("it has more than %d fields", maxFields)
	}
	p.Fields = append(p.Fields, Field{Name: name, Value: string(bytes.TrimLeft(line[colon+1:], " \t")), Line: r.line})
	return len(p.Fields) - 1, nil
}

// validFieldName: printable ASCII without blank and colon, not beginning with '#' or '-' (deb822(5)).
func validFieldName(name []byte) bool {
	if name[0] == '#' || name[0] == '-' {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// readLine is the next line without its end. It stays valid until the next call.
func (r *ParagraphReader) readLine() ([]byte, error) {
	r.line++
	line, err := r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = r.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			if r.long = append(r.long, line...); len(r.long) > maxLine {
				return nil, fmt.Errorf("it is longer than %d bytes", maxLine)
			}
			line, err = r.r.ReadSlice('\n')
		}
		r.long = append(r.long, line...)
		line = r.long
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil // a last line without an end
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, errors.New("it has a NUL byte")
	}
	return line, nil
}
