package specs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// maxJSONDepth is deeper than any lock; encoding/json itself stops at 10000.
const maxJSONDepth = 32

// ParseLock reads a lock. The file's name is for messages.
func ParseLock(file string, data []byte) (*Lock, error) {
	c := checker{document: &document{file: file, op: "read lock", data: data,
		remedy: "a lock is not written by hand: take it from version control, or make it anew with `belljar lock`"}}
	l := new(Lock)
	if c.root = c.parseJSON(); c.root != nil && c.lockVersion() {
		c.decode(c.root, "", reflect.ValueOf(l).Elem())
		if len(c.problems) == 0 {
			c.lock(l)
		}
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return l, nil
}

// lockVersion comes before all else: what a newer lock has, this program cannot call unknown.
func (c checker) lockVersion() bool {
	n := c.root.get("version")
	if n == nil || n.kind != kindInt {
		return true // missing and mistyped are the decoder's to report
	}
	for v := 1; v <= LockVersion; v++ {
		if n.text == fmt.Sprint(v) {
			return true
		}
	}
	c.errorf(n.at, "version", "this program reads locks of version 1 to %d, not %s", LockVersion, n.text)
	return false
}

// parseJSON reads d's text as one tree; nil if d then has problems. Unlike encoding/json alone it refuses doubled keys.
func (d *document) parseJSON() *node {
	// The syntax is checked first and as a whole: only then does encoding/json say exactly where it is wrong.
	if err := json.Unmarshal(d.data, new(json.RawMessage)); err != nil {
		offset := int64(len(d.data))
		syntax, ok := errors.AsType[*json.SyntaxError](err)
		if ok && !strings.HasPrefix(err.Error(), "unexpected end") {
			offset = syntax.Offset - 1
		}
		d.errorf(d.positionAt(offset), "", "not JSON: %v", err)
		return nil
	}
	r := jsonReader{document: d, dec: json.NewDecoder(bytes.NewReader(d.data))}
	r.dec.UseNumber()
	root := r.value("", 0)
	if len(d.problems) > 0 {
		return nil
	}
	return root
}

// jsonReader turns encoding/json's tokens into nodes. It keeps count of lines as it goes, for the offset alone would
// cost a scan from the start for every value.
type jsonReader struct {
	*document
	dec    *json.Decoder
	offset int64 // up to which line and column are counted
	at     position
}

// start is the offset at which the next token begins.
func (r *jsonReader) start() int64 {
	i := r.dec.InputOffset()
	for i < int64(len(r.data)) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[i]) >= 0 {
		i++
	}
	return i
}

func (r *jsonReader) position() position {
	if r.at.line == 0 {
		r.at = position{1, 1}
	}
	for end := r.start(); r.offset < end; r.offset++ {
		switch b := r.data[r.offset]; {
		case b == '\n':
			r.at = position{r.at.line + 1, 1}
		case b&0xc0 != 0x80: // a rune's first byte
			r.at.column++
		}
	}
	return r.at
}

// token reads one token; false after an error, which is then reported.
func (r *jsonReader) token() (json.Token, bool) {
	t, err := r.dec.Token()
	if err != nil {
		r.errorf(r.position(), "", "not JSON: %v", err)
	}
	return t, err == nil
}

func (r *jsonReader) value(path string, depth int) *node {
	n := &node{kind: kindNull, at: r.position()}
	if depth > maxJSONDepth {
		r.errorf(n.at, path, "nested more than %d deep", maxJSONDepth)
		return nil
	}
	t, ok := r.token()
	if !ok {
		return nil
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return r.object(n, path, depth)
		}
		return r.array(n, path, depth)
	case bool:
		n.kind, n.text = kindBool, fmt.Sprint(t)
	case json.Number:
		n.kind, n.text = kindInt, t.String()
		if bytes.ContainsAny([]byte(t), ".eE") {
			n.kind = kindFloat
		}
	case string:
		n.kind, n.text = kindString, t
	}
	return n
}

func (r *jsonReader) object(n *node, path string, depth int) *node {
	n.kind = kindMap
	for r.dec.More() {
		at := r.position()
		t, ok := r.token()
		if !ok {
			return nil
		}
		key, _ := t.(string) // the decoder allows nothing else here
		value := r.value(child(path, key), depth+1)
		if value == nil {
			return nil
		}
		if !n.add(member{key, at, value}) {
			r.errorf(at, path, "the key %q is there twice", key)
		}
	}
	_, ok := r.token()
	if !ok {
		return nil
	}
	return n
}

func (r *jsonReader) array(n *node, path string, depth int) *node {
	n.kind = kindList
	for r.dec.More() {
		value := r.value(element(path, len(n.list)), depth+1)
		if value == nil {
			return nil
		}
		n.list = append(n.list, value)
	}
	if _, ok := r.token(); !ok {
		return nil
	}
	return n
}
