package debian

import (
	"fmt"
	"slices"
	"strings"
)

// Relation is one package relationship (Debian Policy 7.1), e.g. libc6:any (>= 2.36) [amd64 !i386] <!nocheck>.
type Relation struct {
	Name     string
	Arch     string // the qualifier after ':': any, native or an architecture; "" where there is none
	Op       string // <<, <=, =, >=, >>; "" where any version will do
	Version  string
	Arches   []string   // the restriction in [], each perhaps with a leading '!'
	Profiles [][]string // the build profiles in <>: a list of groups, each term perhaps with a leading '!'
}

// Alternatives is a group a | b | c, of which one must hold.
type Alternatives []Relation

// ParseRelations reads a field such as Depends: groups with ',' between, alternatives with '|'. An empty field is no
// group; a trailing comma is allowed, as in dpkg.
func ParseRelations(field string) ([]Alternatives, error) {
	var all []Alternatives
	parts := strings.Split(field, ",")
	for i, part := range parts {
		if strings.TrimSpace(part) == "" {
			if i == len(parts)-1 {
				break // an empty field, or after a trailing comma
			}
			return nil, fmt.Errorf("relations %.60q: nothing stands before a comma, want a package name", field)
		}
		var group Alternatives
		for alternative := range strings.SplitSeq(part, "|") {
			r, err := parseRelation(alternative)
			if err != nil {
				return nil, err
			}
			group = append(group, r)
		}
		all = append(all, group)
	}
	return all, nil
}

func parseRelation(s string) (Relation, error) {
	var r Relation
	text := strings.TrimSpace(s)
	bad := func(format string, args ...any) (Relation, error) {
		return r, fmt.Errorf("relation %.60q: %s", text, fmt.Sprintf(format, args...))
	}
	end := strings.IndexAny(text, " \t\n([<")
	if end < 0 {
		end = len(text)
	}
	name, rest := text[:end], strings.TrimSpace(text[end:])
	name, arch, qualified := strings.Cut(name, ":")
	if err := checkName(name); err != nil {
		return bad("%v", err)
	}
	if qualified && !isArch(arch) {
		return bad("its qualifier is %q, want any, native or an architecture", arch)
	}
	r.Name, r.Arch = name, arch
	for seen := byte('('); rest != ""; rest = strings.TrimSpace(rest) {
		closer := map[byte]string{'(': ")", '[': "]", '<': ">"}[rest[0]]
		if closer == "" || strings.IndexByte("([<", rest[0]) < strings.IndexByte("([<", seen) {
			return bad("%q does not belong here, want (version), [arch], <profile> in this order", rest)
		}
		seen = rest[0]
		inner, after, ok := strings.Cut(rest[1:], closer)
		if !ok {
			return bad("%q has no closing %q", rest, closer)
		}
		rest = after
		if err := r.restrict(seen, inner); err != nil {
			return bad("%v", err)
		}
	}
	return r, nil
}

// restrict adds what stands in one pair of brackets.
func (r *Relation) restrict(kind byte, inner string) error {
	switch {
	case kind == '(' && r.Op == "":
		inner = strings.TrimSpace(inner)
		op := inner[:len(inner)-len(strings.TrimLeft(inner, "<>="))]
		known, ok := map[string]string{
			"<<": "<<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">>", "<": "<=", ">": ">=",
		}[op]
		if !ok {
			return fmt.Errorf("its operator is %q, want one of << <= = >= >>", op)
		}
		version := strings.TrimSpace(inner[len(op):])
		if _, err := ParseVersion(version); err != nil {
			return err
		}
		r.Op, r.Version = known, version // '<' and '>' are the obsolete spelling of '<=' and '>=' (Policy 7.1)
		return nil
	case kind == '[' && r.Arches == nil:
		for _, a := range strings.Fields(inner) {
			if !isArch(strings.TrimPrefix(a, "!")) {
				return fmt.Errorf("its restriction has %q, want an architecture", a)
			}
			r.Arches = append(r.Arches, a)
		}
		if r.Arches == nil {
			return fmt.Errorf("its restriction [] is empty, want architectures")
		}
		return nil
	case kind == '<':
		group := strings.Fields(inner)
		for _, p := range group {
			if strings.ContainsAny(p, "<>[]()") || strings.TrimPrefix(p, "!") == "" {
				return fmt.Errorf("its restriction has %q, want a build profile", p)
			}
		}
		if len(group) == 0 {
			return fmt.Errorf("its restriction <> is empty, want build profiles")
		}
		r.Profiles = append(r.Profiles, group)
		return nil
	}
	return fmt.Errorf("a second %q follows, want one", kind)
}

// String is the relation in the form that dpkg writes.
func (r Relation) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	if r.Arch != "" {
		b.WriteString(":" + r.Arch)
	}
	if r.Op != "" {
		b.WriteString(" (" + r.Op + " " + r.Version + ")")
	}
	if r.Arches != nil {
		b.WriteString(" [" + strings.Join(r.Arches, " ") + "]")
	}
	for _, p := range r.Profiles {
		b.WriteString(" <" + strings.Join(p, " ") + ">")
	}
	return b.String()
}

func (a Alternatives) String() string {
	all := make([]string, len(a))
	for i, r := range a {
		all[i] = r.String()
	}
	return strings.Join(all, " | ")
}

// Accepts reports whether a package of that version fulfils the relation's version part.
func (r Relation) Accepts(version string) bool {
	if r.Op == "" {
		return true
	}
	c, err := CompareVersions(version, r.Version)
	if err != nil {
		return false
	}
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// AppliesTo reports whether the restriction in [] takes the relation in for that architecture (Policy 7.1, 11.1).
func (r Relation) AppliesTo(arch string) bool {
	if r.Arches == nil {
		return true
	}
	for _, a := range r.Arches {
		if name, not := strings.CutPrefix(a, "!"); matchArch(name, arch) {
			return !not
		}
	}
	return strings.HasPrefix(r.Arches[0], "!")
}

// UnderProfiles reports whether the restrictions in <> take the relation in when those build profiles are active:
// one group of which every term holds (Policy 7.1, build-profile restriction formulas).
func (r Relation) UnderProfiles(active ...string) bool {
	if r.Profiles == nil {
		return true
	}
	return slices.ContainsFunc(r.Profiles, func(group []string) bool {
		for _, term := range group {
			if name, not := strings.CutPrefix(term, "!"); slices.Contains(active, name) == not {
				return false
			}
		}
		return true
	})
}

// matchArch knows the wildcards any, OS-any and any-CPU; an architecture without an OS is Linux's.
func matchArch(pattern, arch string) bool {
	if pattern == arch || pattern == "any" {
		return true
	}
	pos, pcpu, ok := strings.Cut(pattern, "-")
	if !ok {
		return false
	}
	aos, acpu, ok := strings.Cut(arch, "-")
	if !ok {
		aos, acpu = "linux", arch
	}
	return (pos == "any" || pos == aos) && (pcpu == "any" || pcpu == acpu)
}

// checkName: lower-case letters, digits, + - . (Policy 5.6.7); the relation fields of old packages have single letters.
func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("it has no package name")
	}
	if c := name[0]; !isDigit(c) && (c < 'a' || c > 'z') {
		return fmt.Errorf("the name %q begins with %q, want a lower-case letter or a digit", name, c)
	}
	for i := range len(name) {
		if c := name[i]; !isDigit(c) && (c < 'a' || c > 'z') && c != '+' && c != '-' && c != '.' {
			return fmt.Errorf("the name %q has %q in it, want lower-case letters, digits and any of + . -", name, c)
		}
	}
	return nil
}

func isArch(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != ""
}
