package specs

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// decode fills out from n, strictly: every key of a struct must be known, and be there unless its tag says omitempty;
// a value must have the very type, for a number that turns into a string is a version that loses its last zero.
func (d *document) decode(n *node, path string, out reflect.Value) {
	if out.Kind() == reflect.Pointer {
		out.Set(reflect.New(out.Type().Elem()))
		out = out.Elem()
	}
	if out.Addr().Type().Implements(textUnmarshaler) {
		if d.expect(n, path, kindString) {
			if err := out.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text)); err != nil {
				d.errorf(n.at, path, "%s", textError(out, n.text, err))
			}
		}
		return
	}
	switch out.Kind() {
	case reflect.String:
		if d.expect(n, path, kindString) {
			out.SetString(n.text)
		}
	case reflect.Bool:
		if d.expect(n, path, kindBool) {
			out.SetBool(n.text == "true")
		}
	case reflect.Int, reflect.Int64:
		if d.expect(n, path, kindInt) {
			v, err := strconv.ParseInt(n.text, 10, out.Type().Bits())
			if err != nil {
				d.errorf(n.at, path, "%s is not a decimal number in range", n.text)
			}
			out.SetInt(v)
		}
	case reflect.Slice:
		d.decodeList(n, path, out)
	case reflect.Map:
		d.decodeMap(n, path, out)
	case reflect.Struct:
		d.decodeStruct(n, path, out)
	default:
		panic("specs: no rule to decode a " + out.Type().String())
	}
}

func (d *document) expect(n *node, path string, want kind) bool {
	if n.kind == want {
		return true
	}
	hint := ""
	if want == kindString && n.text != "" {
		hint = fmt.Sprintf(`: write "%s"`, n.text)
	}
	d.errorf(n.at, path, "expected %s, found %s%s", want, n.kind, hint)
	return false
}

func (d *document) decodeList(n *node, path string, out reflect.Value) {
	if !d.expect(n, path, kindList) {
		return
	}
	out.Set(reflect.MakeSlice(out.Type(), len(n.list), len(n.list)))
	for i, e := range n.list {
		d.decode(e, element(path, i), out.Index(i))
	}
}

func (d *document) decodeMap(n *node, path string, out reflect.Value) {
	if !d.expect(n, path, kindMap) {
		return
	}
	out.Set(reflect.MakeMap(out.Type()))
	for _, m := range n.keys {
		v := reflect.New(out.Type().Elem()).Elem()
		d.decode(m.value, child(path, m.key), v)
		out.SetMapIndex(reflect.ValueOf(m.key), v)
	}
}

func (d *document) decodeStruct(n *node, path string, out reflect.Value) {
	if !d.expect(n, path, kindMap) {
		return
	}
	fields := map[string]int{}
	var names, missing []string
	for i := range out.NumField() {
		name, optional := fieldName(out.Type().Field(i))
		fields[name] = i
		names = append(names, name)
		if !optional && n.get(name) == nil {
			missing = append(missing, name)
		}
	}
	for _, m := range n.keys {
		if i, ok := fields[m.key]; ok {
			d.decode(m.value, child(path, m.key), out.Field(i))
			continue
		}
		d.errorf(m.at, path, "unknown key %q%s", m.key, suggest(m.key, names))
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == nearest(m.key, names) })
	}
	if len(missing) > 0 {
		d.errorf(n.at, path, "missing: %s", strings.Join(missing, ", "))
	}
}

// fieldName is a field's key, and whether it may be absent. YAML and JSON agree on both; a test holds that.
func fieldName(f reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, options == "omitempty" || options == "omitzero" // the latter where an empty list says something
}

// textError says in people's words what time.Time says in Go's.
func textError(out reflect.Value, text string, err error) string {
	if out.Type().PkgPath() == "time" {
		return fmt.Sprintf(`%q is not a time: write it as in RFC 3339, in UTC, like "2026-01-01T00:00:00Z"`, text)
	}
	return err.Error()
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
