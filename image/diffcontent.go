package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// contentComparer compares contents, one pair after another, with buffers of its own.
type contentComparer struct{ a, b []byte }

// compare fills in p.to where the contents differ: their digests, and where the first difference is. It returns how
// many bytes it read. Equal contents are read once and never hashed: their bytes say it all.
func (w *contentComparer) compare(ctx context.Context, p pair) (int64, error) {
	if w.a == nil {
		w.a, w.b = make([]byte, 256<<10), make([]byte, 256<<10)
	}
	same := p.a.size == p.b.size
	var n int64
	if same {
		ra, rb := p.a.reader(), p.b.reader()
		defer closeReader(ra)
		defer closeReader(rb)
		for left := p.a.size; left > 0; {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			k := int(min(left, int64(len(w.a))))
			if _, err := io.ReadFull(ra, w.a[:k]); err != nil {
				return n, fmt.Errorf("the first image's: %w", short(err))
			}
			if _, err := io.ReadFull(rb, w.b[:k]); err != nil {
				return n, fmt.Errorf("the second image's: %w", short(err))
			}
			n, left = n+2*int64(k), left-int64(k)
			if !bytes.Equal(w.a[:k], w.b[:k]) {
				same = false
				break
			}
		}
		if same {
			return n, nil
		}
	}
	var err error
	if p.to.A, err = w.digest(ctx, p.a); err != nil {
		return n, fmt.Errorf("the first image's: %w", err)
	}
	if p.to.B, err = w.digest(ctx, p.b); err != nil {
		return n, fmt.Errorf("the second image's: %w", err)
	}
	p.to.Detail, err = w.firstDifference(p)
	p.to.What = DiffContent
	return n + p.a.size + p.b.size, err
}

func (w *contentComparer) digest(ctx context.Context, n *node) (string, error) {
	r := n.reader()
	defer closeReader(r)
	h := sha256.New()
	k, err := io.CopyBuffer(struct{ io.Writer }{h}, &ctxReader{ctx, r}, w.a)
	if err == nil && k != n.size {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Sprintf("sha256 %x, %d bytes", h.Sum(nil), n.size), err
}

// firstDifference says where two contents begin to differ: of texts the line, of other contents the offset.
func (w *contentComparer) firstDifference(p pair) (string, error) {
	ra, rb := p.a.reader(), p.b.reader()
	defer closeReader(ra)
	defer closeReader(rb)
	line, off := 1, int64(0)
	var begun []byte // of the line, what both have
	for {
		na, errA := io.ReadFull(ra, w.a)
		nb, errB := io.ReadFull(rb, w.b)
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return "", err
			}
		}
		a, b := w.a[:na], w.b[:nb]
		same := 0
		for same < min(na, nb) && a[same] == b[same] {
			same++
		}
		if same < min(na, nb) || na != nb || na == 0 {
			line += bytes.Count(a[:same], []byte("\n"))
			if i := bytes.LastIndexByte(a[:same], '\n'); i >= 0 {
				begun = nil
				a, b, off, same = a[i+1:], b[i+1:], off+int64(i)+1, same-i-1
			}
			at := len(begun) + same
			textA, okA := lineOf(begun, a, at)
			textB, okB := lineOf(begun, b, at)
			if okA && okB {
				return fmt.Sprintf("line %d: %s, %s", line, textA, textB), nil
			}
			return fmt.Sprintf("from byte %d on", off+int64(same)), nil
		}
		line += bytes.Count(a, []byte("\n"))
		if i := bytes.LastIndexByte(a, '\n'); i >= 0 {
			begun, a = nil, a[i+1:]
		}
		begun = append(begun, a...)
		begun = begun[max(0, len(begun)-maxLine):]
		off += int64(na)
	}
}

// maxLine is how much of a line is looked at on each side of a difference.
const maxLine = 4096

// lineOf quotes the line that begins with begun and goes on with rest, if it is a text's: what is around the byte at.
func lineOf(begun, rest []byte, at int) (string, bool) {
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[:min(len(rest), max(0, at-len(begun))+maxLine)]
	line := append(append([]byte{}, begun...), rest...)
	if bytes.IndexByte(line, 0) >= 0 || !utf8.Valid(line) && len(line) < maxLine {
		return "", false
	}
	const before, after = 60, 60
	text, ahead := []rune(string(line)), len([]rune(string(line[:min(at, len(line))])))
	from, to := max(0, ahead-before), min(len(text), ahead+after)
	quoted := strconv.Quote(string(text[from:to]))
	if from > 0 {
		quoted = "…" + quoted
	}
	if to < len(text) {
		quoted += "…"
	}
	return quoted, true
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		c.Close()
	}
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
