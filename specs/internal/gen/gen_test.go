package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../../.."

// TestCurrent holds the committed files to the types: whoever changes a docstring runs go generate.
func TestCurrent(t *testing.T) {
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is stale: run `go generate ./specs` (-want +got):\n%s", name, diff)
		}
	}
}

func TestFillWantsItsMarks(t *testing.T) {
	for name, page := range map[string]string{"none": "# Specs\n", "no end": mark("x", "begin"), "other": mark("y", "begin") + mark("y", "end")} {
		t.Run(name, func(t *testing.T) {
			if got, err := fill(page, "x", "text"); err == nil {
				t.Errorf("a page without the marks was accepted: %q", got)
			}
		})
	}
}

func TestReadTypesWantsDocstrings(t *testing.T) {
	for name, src := range map[string]string{
		"type":  "type T struct {\n\t// A.\n\tA string `yaml:\"a\"`\n}",
		"field": "// T is.\ntype T struct {\n\tA string `yaml:\"a\"`\n}",
		"tag":   "// T is.\ntype T struct {\n\t// A.\n\tA string\n}",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.go")
			if err := os.WriteFile(file, []byte("package x\n"+src), 0o600); err != nil {
				t.Fatal(err)
			}
			if types, err := readTypes(file); err == nil {
				t.Errorf("accepted: %+v", types)
			}
		})
	}
}
