// Command gen makes, from the Go types of package specs, what people and their editors read about the spec language:
// the JSON Schemas in docs/schema and the reference in docs/spec.md. `go generate ./specs` runs it.
//
// It knows how the language is shown. What the language is, package specs alone decides.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(".."); err != nil { // go generate runs in the folder of the file that asks for it: specs
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run brings every generated file below root, the repository, up to date.
func run(root string) error {
	files, err := generate(root)
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate makes the files' contents, by path below root. It writes nothing, so that a test can compare.
func generate(root string) (map[string][]byte, error) {
	var types []structType
	for _, file := range []string{"spec.go", "smoke.go"} {
		more, err := readTypes(filepath.Join(root, "specs", file))
		if err != nil {
			return nil, fmt.Errorf("read docstrings: %w", err)
		}
		types = append(types, more...)
	}
	page, err := page(root, types)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"docs/spec.md": []byte(page)}
	for _, s := range schemas {
		if files[s.file], err = s.generate(types); err != nil {
			return nil, fmt.Errorf("%s: %w", s.file, err)
		}
	}
	return files, nil
}

// page is docs/spec.md with its generated parts made anew.
func page(root string, types []structType) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "docs", "spec.md"))
	if err != nil {
		return "", err
	}
	text, err := fill(string(data), "reference", reference(types))
	if err != nil {
		return "", err
	}
	for name, file := range map[string]string{
		"seabios.yaml": "roms/seabios.yaml",
		"guest":        "guests/debian-bookworm-x86_64.yaml",
	} {
		example, err := os.ReadFile(filepath.Join(root, "specs", "shipped", file))
		if err != nil {
			return "", err
		}
		if text, err = fill(text, name, codeBlock(example)); err != nil {
			return "", err
		}
	}
	return text, nil
}
