package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/invopop/jsonschema"
)

// fill puts generated text into its place in a page, between two marks; what is around them, people write.
func fill(page, name, text string) (string, error) {
	begin, end := mark(name, "begin"), mark(name, "end")
	before, rest, ok := strings.Cut(page, begin)
	if !ok {
		return "", fmt.Errorf("docs/spec.md lacks the line %s", begin)
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("docs/spec.md lacks the line %s", end)
	}
	return before + begin + "\n" + text + "\n" + end + after, nil
}

func mark(name, which string) string {
	return fmt.Sprintf("<!-- %s %s (go generate ./specs) -->\n", name, which)
}

// codeBlock shows a shipped file.
func codeBlock(data []byte) string { return "```yaml\n" + string(data) + "```\n" }

// reference is a table for each struct, in Markdown.
func reference(types []structType) string {
	var b strings.Builder
	for i, t := range types {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", t.name, cell(t.doc))
		b.WriteString("| key | value | |\n|---|---|---|\n")
		for _, f := range t.fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.key, valueOf(t.name, f), cell(f.doc))
		}
	}
	return b.String()
}

// valueOf says of what type a field is, and what it is when left out.
func valueOf(structName string, f field) string {
	s := typeWords(f.typ)
	if !f.optional {
		return s + ", required"
	}
	if rule := rules[structName][f.key]; rule != nil {
		// The rules know the defaults; they are written once.
		schema := jsonschema.Schema{Items: &jsonschema.Schema{}}
		rule(&schema)
		if schema.Default != nil {
			text, err := json.Marshal(schema.Default)
			if err == nil {
				return fmt.Sprintf("%s, default `%s`", s, strings.Trim(string(text), `"`))
			}
		}
	}
	return s
}

func typeWords(typ string) string {
	switch typ {
	case "string", "Duration", "Size":
		return map[string]string{
			"string":   "string",
			"Duration": "[duration](#durations-and-sizes)",
			"Size":     "[size](#durations-and-sizes)",
		}[typ]
	case "bool":
		return "`true` or `false`, default `false`"
	case "int":
		return "number"
	case "time.Time":
		return "time (RFC 3339, UTC)"
	case "map[string]string":
		return "mapping of strings"
	}
	if element, ok := strings.CutPrefix(typ, "[]"); ok {
		if element == "string" {
			return "list of strings"
		}
		return "list of " + link(element)
	}
	return link(typ)
}

// link leads to a struct's own table.
func link(name string) string { return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name)) }

// cell keeps text from breaking a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
