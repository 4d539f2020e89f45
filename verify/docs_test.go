package verify

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// docs/record.md quotes the golden record and describes every field: neither may drift.
func TestDocsFollowTheRecord(t *testing.T) {
	text, err := os.ReadFile("../docs/record.md")
	if err != nil {
		t.Fatal(err)
	}
	record, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllSubmatch(text, -1)
	if len(examples) == 0 {
		t.Error("no example")
	}
	for _, e := range examples {
		if !strings.Contains(string(record), string(e[1])) {
			t.Errorf("this is not in the golden record:\n%s", e[1])
		}
	}
	for _, name := range fieldNames(reflect.TypeFor[Record]()) {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("the field %s is not described", name)
		}
	}
}

// fieldNames are the JSON names of a type of this package and of all that it holds.
func fieldNames(typ reflect.Type) (all []string) {
	for typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[Record]().PkgPath() {
		return nil
	}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		all = append(append(all, name), fieldNames(typ.Field(i).Type)...)
	}
	return all
}
