package debian

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/belljar/belljar/fault"
)

func TestParagraphReader(t *testing.T) {
	text := "\n  \nPackage: a\nDescription: short\n long  \n .\n\tmore\nEmpty:\nLast:  x \n\n\nPackage: b\r\nHash: \n 1\n 2"
	r := NewParagraphReader("file", iotest.OneByteReader(strings.NewReader(text)))
	var got strings.Builder
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Fields {
			fmt.Fprintf(&got, "%d/%d %s=%q\n", p.Line, f.Line, f.Name, f.Value)
		}
	}
	want := `3/3 Package="a"
3/4 Description="short\nlong  \n.\nmore"
3/8 Empty=""
3/9 Last="x"
12/12 Package="b"
12/13 Hash="\n1\n2"
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

func TestParagraphReaderOnly(t *testing.T) {
	text := "Package: a\nDescription: x\n y\nsize: 3\n"
	p, err := NewParagraphReader("file", strings.NewReader(text), "Size", "Package").Next()
	if err != nil || len(p.Fields) != 2 || p.Get("SIZE") != "3" || p.Fields[1].Name != "Size" || p.Get("Package") != "a" {
		t.Errorf("%v, %v", p, err)
	}
}

func TestParagraphReaderLongLine(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	p, err := NewParagraphReader("file", strings.NewReader("A: "+long+"\nB: c\n")).Next()
	if err != nil || p.Get("A") != long || p.Get("B") != "c" {
		t.Errorf("a line longer than the buffer is not read: %v", err)
	}
	_, err = NewParagraphReader("file", strings.NewReader("A: "+strings.Repeat(long, 25))).Next()
	wantFault(t, err, "file", "line 1", "longer than")
}

func TestParagraphReaderBad(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"continuation first", " x\n", "line 1: a continuation line"},
		{"no colon", "A: b\nnonsense\n", "line 2: it reads \"nonsense\""},
		{"no name", ": b\n", "want 'Field: value'"},
		{"blank in name", "A b: c\n", "want 'Field: value'"},
		{"comment", "# A: b\n", "want 'Field: value'"},
		{"twice", "A: b\nC: d\na: e\n", "line 3: the field a comes twice in one paragraph, first on line 1"},
		{"NUL", "A: \x00\n", "NUL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewParagraphReader("file", strings.NewReader(c.text))
			_, err := r.Next()
			wantFault(t, err, "read file", c.says)
			if _, again := r.Next(); !errors.Is(again, err) {
				t.Errorf("the error does not stick: %v", again)
			}
		})
	}
	broken := errors.New("disk")
	_, err := NewParagraphReader("file", iotest.ErrReader(broken)).Next()
	if !errors.Is(err, broken) || fault.KindOf(err) == fault.Input {
		t.Errorf("a failing source is %v", err)
	}
	r := NewParagraphReader("file", io.MultiReader(strings.NewReader("A: b\n\n"),
		iotest.ErrReader(fmt.Errorf("connection: %w", io.EOF))))
	if p, err := r.Next(); err != nil || p.Get("A") != "b" {
		t.Errorf("before the cut: %v, %v", p, err)
	}
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "connection") {
		t.Errorf("a source that is cut off is %v", err)
	}
	_, err = ParseParagraph("file", []byte("A: b\n\nC: d\n"))
	wantFault(t, err, "a second paragraph")
	_, err = ParseParagraph("file", nil)
	wantFault(t, err, "want one paragraph")
}

// FuzzDeb822: keeping fewer fields changes neither the paragraphs nor the kept fields' values.
func FuzzDeb822(f *testing.F) {
	f.Add([]byte("Package: a\nDescription: x\n y\n\nPackage: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all := NewParagraphReader("all", strings.NewReader(string(data)))
		some := NewParagraphReader("some", strings.NewReader(string(data)), "Package")
		for {
			p, err := all.Next()
			q, qerr := some.Next()
			if err != nil {
				if fault.KindOf(err) != fault.Input && !errors.Is(err, io.EOF) {
					t.Fatalf("not classified: %v", err)
				}
				return
			}
			if qerr != nil || p.Get("Package") != q.Get("Package") {
				t.Fatalf("%q against %q (%v)", p.Get("Package"), q.Get("Package"), qerr)
			}
		}
	})
}
