package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Parse reads a record and is stricter than encoding/json: an unknown, missing, doubled or differently spelled field
// is an error, and so is a value in another form than Marshal's. SLSA lets a consumer ignore what it does not know;
// Parse is for Belljar's own records, of which nothing must be read that was not written.
func Parse(data []byte) (*Record, error) {
	if err := checkDoubled(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	r := new(Record)
	if err := dec.Decode(r); err != nil {
		return nil, place(data, dec.InputOffset(), err)
	}
	if err := checkRoundTrip(data, r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return r, nil
}

// Marshal gives the one form of r: indented by two spaces, fields in the order of the types, a newline at the end.
func (r *Record) Marshal() ([]byte, error) { return encode(r) }

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return out.Bytes(), nil
}

// place puts the line before an error of encoding/json.
func place(data []byte, offset int64, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = wrong.Offset
		err = fmt.Errorf("%s: found a %s, expected %s", wrong.Field, wrong.Value, kindName(wrong.Type))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the record ends in the middle")
	}
	return fmt.Errorf("line %d: %s", lineOf(data, offset), strings.TrimPrefix(err.Error(), "json: "))
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	}
	return "a " + t.String()
}

// checkDoubled finds a key that an object has twice, which encoding/json resolves in silence, and text behind the
// record.
func checkDoubled(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := doubledAt(dec, data, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: something stands behind the record", lineOf(data, dec.InputOffset()))
	}
	return nil
}

// deepest is how far values may nest: encoding/json's own limit does not hold for tokens.
const deepest = 64

func doubledAt(dec *json.Decoder, data []byte, depth int) error {
	if depth > deepest {
		return fmt.Errorf("line %d: more than %d levels of nesting", lineOf(data, dec.InputOffset()), deepest)
	}
	tok, err := dec.Token()
	if err != nil {
		return place(data, dec.InputOffset(), err)
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return place(data, dec.InputOffset(), err)
			}
			name, _ := key.(string)
			if seen[name] {
				return fmt.Errorf("line %d: the field %q stands twice in one object",
					lineOf(data, dec.InputOffset()), name)
			}
			seen[name] = true
		}
		if err := doubledAt(dec, data, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing bracket
		return place(data, dec.InputOffset(), err)
	}
	return nil
}

// checkRoundTrip compares what stands in data with what was understood. It finds missing fields, names in other
// letters' case, and values in another form than Marshal writes.
func checkRoundTrip(data []byte, r *Record) error {
	again, err := r.Marshal()
	if err != nil {
		return err
	}
	var was, is any
	for _, d := range []struct {
		from []byte
		to   *any
	}{{data, &was}, {again, &is}} {
		dec := json.NewDecoder(bytes.NewReader(d.from))
		dec.UseNumber()
		if err := dec.Decode(d.to); err != nil {
			return fmt.Errorf("read record again: %w", err)
		}
	}
	return odd("", was, is)
}

// sealPath is the one place in which the record carries another's JSON as it is.
const sealPath = "predicate.belljar_run.seal"

// odd names the first place in which was (the file) is not what is (its one form) has.
func odd(at string, was, is any) error {
	switch is := is.(type) {
	case map[string]any:
		m, ok := was.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: expected an object", at)
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if _, known := is[k]; !known {
				return fmt.Errorf("%s: unknown field, or an empty one that should be left out", join(at, k))
			}
		}
		for _, k := range slices.Sorted(maps.Keys(is)) {
			v, there := m[k]
			if !there {
				return fmt.Errorf("%s: missing", join(at, k))
			}
			if err := odd(join(at, k), v, is[k]); err != nil {
				return err
			}
		}
	case []any:
		l, ok := was.([]any)
		if !ok || len(l) != len(is) {
			return fmt.Errorf("%s: expected a list of %d", at, len(is))
		}
		for i := range is {
			if err := odd(fmt.Sprintf("%s[%d]", at, i), l[i], is[i]); err != nil {
				return err
			}
		}
	default:
		if was == nil && !strings.HasPrefix(at, sealPath) {
			return fmt.Errorf("%s: null, expected a value", at)
		}
		if !reflect.DeepEqual(was, is) {
			return fmt.Errorf("%s: found %v, expected it in the form %v", at, was, is)
		}
	}
	return nil
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}
