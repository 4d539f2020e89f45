package image

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// AllowList explains differences between two images. As YAML:
//
//	allow:
//	  - path: /var/cache/**          # path.Match's patterns; ** stands for any number of folders
//	    differs: [added, content]    # what may differ, in the words of a Diff
//	    reason: a cache, made anew at need
//	  - path: /etc/passwd
//	    differs: [content]
//	    lines: '^build:'             # a content may differ in lines that this regexp matches, and in no other
//	    reason: the user that runs stages
//	  - package: libc6:i386
//	    differs: [version]
//	    reason: …
type AllowList struct {
	name    string
	entries []AllowEntry
}

// AllowEntry is one entry of an allow-list.
type AllowEntry struct {
	Line    int      `json:"line"`
	Path    string   `json:"path,omitempty"`
	Package string   `json:"package,omitempty"`
	Differs []string `json:"differs"`
	Lines   string   `json:"lines,omitempty"`
	Reason  string   `json:"reason"`
	lines   *regexp.Regexp
	used    map[string]bool
}

// ParseAllowList reads an allow-list strictly: what it does not know is an error, and all of them are told at once.
func ParseAllowList(name string, data []byte) (*AllowList, error) {
	p := allowParser{name: name}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		if y, ok := errors.AsType[*yaml.SyntaxError](err); ok && y.Token != nil {
			p.errorf(y.Token, "%s", y.Message)
		} else {
			return nil, fault.New(fault.Input, "read "+name, "%w", err)
		}
	} else {
		p.document(file)
	}
	if len(p.problems) > 0 {
		return nil, fault.New(fault.Input, "read "+name, "%s", strings.Join(p.problems, "\n")).
			WithRemedy("An entry has 'path' or 'package', 'differs' (a list), 'reason', and for a content perhaps 'lines'.")
	}
	return &AllowList{name, p.entries}, nil
}

type allowParser struct {
	name     string
	entries  []AllowEntry
	problems []string
}

func (p *allowParser) errorf(at *token.Token, format string, args ...any) {
	line := 1
	if at != nil && at.Position != nil {
		line = at.Position.Line
	}
	p.problems = append(p.problems, fmt.Sprintf("%s:%d: ", p.name, line)+fmt.Sprintf(format, args...))
}

func (p *allowParser) document(file *ast.File) {
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		p.errorf(nil, "expected one document with the list 'allow'")
		return
	}
	for _, m := range p.members(file.Docs[0].Body) {
		if key := m.Key.String(); key != "allow" {
			p.errorf(m.Key.GetToken(), "unknown field %q%s", key, meant(key, []string{"allow"}))
			continue
		}
		list, ok := m.Value.(*ast.SequenceNode)
		if !ok {
			p.errorf(m.Value.GetToken(), "'allow' must be a list")
			continue
		}
		for _, v := range list.Values {
			p.entry(v)
		}
	}
	if len(p.problems) == 0 && len(p.entries) == 0 {
		p.errorf(nil, "the list 'allow' is empty or missing")
	}
}

func (p *allowParser) members(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	p.errorf(n.GetToken(), "expected fields, found %s", strings.ToLower(n.Type().String()))
	return nil
}

func (p *allowParser) entry(n ast.Node) {
	before := len(p.problems)
	e := AllowEntry{used: map[string]bool{}}
	if t := n.GetToken(); t != nil && t.Position != nil {
		e.Line = t.Position.Line
	}
	for _, m := range p.members(n) {
		e.Line = min(e.Line, m.Key.GetToken().Position.Line)
		switch key := m.Key.String(); key {
		case "path":
			e.Path = p.text(m)
		case "package":
			e.Package = p.text(m)
		case "reason":
			e.Reason = p.text(m)
		case "lines":
			var err error
			e.Lines = p.text(m)
			if e.lines, err = regexp.Compile(e.Lines); err != nil {
				p.errorf(m.Value.GetToken(), "lines: %v", err)
			}
		case "differs":
			list, ok := m.Value.(*ast.SequenceNode)
			if !ok {
				p.errorf(m.Value.GetToken(), "'differs' must be a list, such as [content]")
				continue
			}
			for _, v := range list.Values {
				e.Differs = append(e.Differs, p.scalar("differs", v))
			}
		default:
			p.errorf(m.Key.GetToken(), "unknown field %q%s", key,
				meant(key, []string{"path", "package", "differs", "lines", "reason"}))
		}
	}
	if len(p.problems) == before {
		p.check(e, n)
	}
	p.entries = append(p.entries, e)
}

// check holds an entry to what it must say.
func (p *allowParser) check(e AllowEntry, n ast.Node) {
	known, pattern := fileDiffs, e.Path
	switch {
	case (e.Path == "") == (e.Package == ""):
		p.errorf(n.GetToken(), "an entry has either 'path' or 'package'")
	case e.Package != "":
		known, pattern = packageDiffs, e.Package
	case !strings.HasPrefix(e.Path, "/"):
		p.errorf(n.GetToken(), "path %q: a path begins with /", e.Path)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		p.errorf(n.GetToken(), "pattern %q: %v", pattern, err)
	}
	if strings.TrimSpace(e.Reason) == "" {
		p.errorf(n.GetToken(), "an entry needs a reason")
	}
	if e.Lines != "" && !slices.Contains(e.Differs, DiffContent) {
		p.errorf(n.GetToken(), "'lines' goes with a content that differs")
	}
	if len(e.Differs) == 0 {
		p.errorf(n.GetToken(), "an entry says in 'differs' what may differ: %s", strings.Join(known, ", "))
	}
	for _, what := range e.Differs {
		if !slices.Contains(known, what) {
			p.errorf(n.GetToken(), "differs: %q is none of %s%s", what, strings.Join(known, ", "), meant(what, known))
		}
	}
}

func (p *allowParser) text(m *ast.MappingValueNode) string { return p.scalar(m.Key.String(), m.Value) }

func (p *allowParser) scalar(key string, n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	}
	p.errorf(n.GetToken(), "'%s' must be text, found %s", key, strings.ToLower(n.Type().String()))
	return ""
}

func meant(word string, known []string) string {
	if near := debian.Nearest(word, known, 1); len(near) > 0 {
		return fmt.Sprintf(": did you mean %q?", near[0])
	}
	return ""
}

// explain marks the differences that the list allows, and notes the entries that allow none. The first entry that
// fits has it.
func (l *AllowList) explain(d *Diff) {
	if l == nil {
		return
	}
	for i := range l.entries {
		l.entries[i].used = map[string]bool{}
	}
	for _, list := range [][]Difference{d.Packages, d.Files} {
		for i := range list {
			for j := range l.entries {
				e := &l.entries[j]
				if e.covers(&list[i]) {
					e.used[list[i].What] = true
					list[i].Allowed = e.Reason
					d.Explained++
					break
				}
			}
		}
	}
	for _, e := range l.entries {
		idle := slices.DeleteFunc(slices.Clone(e.Differs), func(what string) bool { return e.used[what] })
		if len(idle) > 0 {
			e.Differs = idle
			d.Unused = append(d.Unused, e)
		}
	}
}

func (e *AllowEntry) covers(d *Difference) bool {
	if !slices.Contains(e.Differs, d.What) || (e.Path == "") != (d.Path == "") {
		return false
	}
	if d.Path == "" {
		ok, _ := path.Match(e.Package, d.Package)
		return ok
	}
	if !matches(strings.Split(e.Path, "/"), strings.Split(d.Path, "/")) {
		return false
	}
	return e.lines == nil || d.What != DiffContent || onlyLines(e.lines, d.a, d.b)
}

// maxText bounds the contents that are compared line by line.
const maxText = 4 << 20

// onlyLines reports whether every line that one of two texts has more often than the other fits the regexp.
func onlyLines(fits *regexp.Regexp, a, b *node) bool {
	count := map[string]int{}
	for i, n := range []*node{a, b} {
		data, err := n.read(maxText)
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(data)) {
			count[line] += 1 - 2*i
		}
	}
	for line, n := range count {
		if n != 0 && !fits.MatchString(strings.TrimSuffix(line, "\n")) {
			return false
		}
	}
	return true
}

// matches is path.Match, part by part; the part ** stands for any number of parts, none too.
func matches(pattern, parts []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(parts) + 1 {
				if matches(pattern[1:], parts[i:]) {
					return true
				}
			}
			return false
		}
		if len(parts) == 0 {
			return false
		}
		if ok, _ := path.Match(pattern[0], parts[0]); !ok {
			return false
		}
		pattern, parts = pattern[1:], parts[1:]
	}
	return len(parts) == 0
}
