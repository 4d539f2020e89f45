package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/belljar/belljar/specs"
)

// schemaFile is a JSON Schema (draft 2020-12) of one language.
type schemaFile struct {
	file, title string
	root        any
}

var schemas = []schemaFile{
	{"docs/schema/spec.schema.json", "Belljar spec", specs.Spec{}},
	{"docs/schema/guest.schema.json", "Belljar guest spec", specs.Guest{}},
	{"docs/schema/profile.schema.json", "Belljar smoke profile", specs.Profile{}},
}

func (s schemaFile) generate(types []structType) ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		LookupComment:  lookup(types),
		Mapper:         mapScalar,
	}
	schema := r.Reflect(s.root)
	schema.Title = s.title
	name := reflect.TypeOf(s.root).Name()
	if err := refine(name, schema); err != nil {
		return nil, err
	}
	for name, def := range schema.Definitions {
		if err := refine(name, def); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// lookup finds docstrings for the reflector; a field is asked for by its Go name, a type by "".
func lookup(types []structType) func(reflect.Type, string) string {
	return func(t reflect.Type, name string) string {
		for _, st := range types {
			if st.name != t.Name() {
				continue
			}
			if name == "" {
				return st.doc
			}
			for _, f := range st.fields {
				if f.name == name {
					return f.doc
				}
			}
		}
		return ""
	}
}

// mapScalar gives the types that are written as strings their syntax.
func mapScalar(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[specs.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: specs.DurationPattern, Examples: []any{"90s", "5m"}}
	case reflect.TypeFor[specs.Size]():
		return &jsonschema.Schema{Type: "string", Pattern: specs.SizePattern, Examples: []any{"512MiB", "2GiB"}}
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	}
	return nil
}

// refine adds to a struct's schema what Go's types cannot say.
func refine(name string, schema *jsonschema.Schema) error {
	for key, change := range rules[name] {
		property, ok := schema.Properties.Get(key)
		if !ok {
			return fmt.Errorf("a rule for %s.%s, which does not exist", name, key)
		}
		change(property)
	}
	if name == "Source" {
		schema.OneOf = []*jsonschema.Schema{
			{Required: []string{"debian", "version"}},
			{Required: []string{"url", "sha256"}},
			{Required: []string{"git", "commit"}},
		}
	}
	return nil
}

type rule = func(*jsonschema.Schema)

// rules are the parts of package specs' validation that a schema can say, by struct and key.
var rules = map[string]map[string]rule{
	"Spec": {
		"name":      pattern(specs.SpecNamePattern),
		"guests":    both(items(1), unique),
		"stages":    items(1),
		"artifacts": items(1),
	},
	"Source": {
		"name":    pattern(specs.NamePattern),
		"debian":  pattern(specs.PackagePattern),
		"version": pattern(specs.VersionPattern),
		"url":     pattern(`^https?://`),
		"sha256":  pattern(specs.SHA256Pattern),
		"git":     pattern(`^https?://`),
		"commit":  pattern(specs.CommitPattern),
	},
	"Stage": {
		"name":     pattern(specs.NamePattern),
		"needs":    both(unique, elements(pattern(specs.NeedPattern))),
		"sources":  both(unique, elements(pattern(specs.NamePattern))),
		"packages": both(unique, elements(pattern(specs.PackagePattern))),
		"env":      func(s *jsonschema.Schema) { s.PropertyNames = &jsonschema.Schema{Pattern: specs.VariablePattern} },
		"silence":  fallback(specs.DefaultStageSilence),
		"scratch":  both(oneOf(specs.ScratchDisk, specs.ScratchTmpfs), fallback(specs.ScratchDisk)),
		"outputs":  unique,
	},
	"Artifact": {
		"name":  pattern(specs.FilePattern),
		"stage": pattern(specs.NamePattern),
	},
	"Smoke": {
		"name":    pattern(specs.NamePattern),
		"machine": pattern(specs.MachinePattern),
		"cpu":     both(pattern(specs.CPUPattern), fallback(specs.DefaultSmokeCPU)),
		"memory":  fallback(specs.DefaultSmokeMemory),
		"console": both(oneOf(specs.ConsoleSerial, specs.ConsoleDebugcon), fallback(specs.ConsoleSerial)),
		"tpm":     oneOf(specs.TPM20, specs.TPM12),
		"expect":  items(1),
		"steps":   items(1),
		"silence": fallback(specs.DefaultSmokeSilence),
		"timeout": fallback(specs.DefaultSmokeTimeout),
	},
	"Step": {
		"screenshot": pattern(specs.NamePattern),
		"qmp":        oneOf("system_powerdown", "system_reset", "inject-nmi", "stop", "cont"),
		"on":         oneOf(specs.ConsoleSerial, specs.ConsoleDebugcon),
		"with":       oneOf(specs.WithTestDisk),
	},
	"PCR": {"bank": oneOf("sha1", "sha256", "sha384", "sha512")},
	"Profile": {
		"name":    pattern(specs.NamePattern),
		"machine": pattern(specs.MachinePattern),
		"cpu":     both(pattern(specs.CPUPattern), fallback(specs.DefaultSmokeCPU)),
		"memory":  fallback(specs.DefaultSmokeMemory),
		"console": both(oneOf(specs.ConsoleSerial, specs.ConsoleDebugcon), fallback(specs.ConsoleSerial)),
		"tpm":     oneOf(specs.TPM20, specs.TPM12),
		"expect":  items(1),
		"steps":   items(1),
		"silence": fallback(specs.DefaultSmokeSilence),
		"timeout": fallback(specs.DefaultSmokeTimeout),
	},
	"Guest": {
		"name":     pattern(specs.NamePattern),
		"arch":     oneOf(specs.ArchX86_64, specs.ArchI686),
		"suite":    pattern(specs.SuitePattern),
		"snapshot": pattern(specs.SnapshotPattern),
		"kernel":   pattern(specs.PackagePattern),
		"packages": both(unique, elements(pattern(specs.PackagePattern))),
		"machine":  pattern(specs.MachinePattern),
		"cpu":      pattern(specs.CPUPattern),
		"cpus":     func(s *jsonschema.Schema) { s.Minimum, s.Maximum = "1", "255" },
	},
}

func pattern(p string) rule       { return func(s *jsonschema.Schema) { s.Pattern = p } }
func items(least uint64) rule     { return func(s *jsonschema.Schema) { s.MinItems = &least } }
func unique(s *jsonschema.Schema) { s.UniqueItems = true }
func elements(r rule) rule        { return func(s *jsonschema.Schema) { r(s.Items) } }
func fallback(v any) rule         { return func(s *jsonschema.Schema) { s.Default = v } }
func oneOf(values ...any) rule    { return func(s *jsonschema.Schema) { s.Enum = values } }
func both(rules ...rule) rule {
	return func(s *jsonschema.Schema) {
		for _, r := range rules {
			r(s)
		}
	}
}
