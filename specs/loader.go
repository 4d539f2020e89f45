package specs

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
)

// specFile is a spec's text, and where it was found.
type specFile struct {
	name string // as messages call it
	path string // "" if it is shipped
	data []byte
}

// id tells one file from all others.
func (f *specFile) id() string {
	if f.path == "" {
		return "shipped:" + f.name
	}
	if abs, err := filepath.Abs(f.path); err == nil {
		return abs
	}
	return f.path
}

// find reads the file of a spec: a path, or a shipped name.
func find(name string) (*specFile, error) {
	if isPath(name) {
		path := filepath.Clean(name)
		data, err := readFile("read spec", path)
		return &specFile{path, path, data}, err
	}
	whole, ok := FindShipped(name)
	if !ok {
		return nil, notOne(name, Shipped())
	}
	data, err := shipped.ReadFile("shipped/" + whole + ".yaml")
	return &specFile{whole + ".yaml", "", data}, err
}

// loader reads a spec and all that it needs, each file once.
type loader struct {
	loaded map[string]*Loaded // by specFile.id
	files  map[string]string  // the name of a spec → that of its file
	way    []step             // the specs that are being read: each needs the next
}

// step is a spec on the way, and the need that leads on from it.
type step struct{ file, spec, stage, need string }

// load reads a spec, its guests and the specs that it needs. A spec whose name another has is refused, and then nil.
func (ld *loader) load(f *specFile, refuse func(format string, args ...any)) (*Loaded, error) {
	spec, c, err := parseSpec(f.name, f.data)
	if err != nil {
		return nil, err
	}
	if other, taken := ld.files[spec.Name]; taken {
		refuse("%s is a second spec of the name %q, which %s has: each of those that a build needs has its own", f.name,
			spec.Name, other)
		return nil, nil
	}
	l := &Loaded{
		Spec: spec, Path: f.path, Guests: map[string]*Guest{}, Needed: map[string]*Loaded{},
		refs: map[string]string{}, needRefs: map[string]string{},
	}
	ld.loaded[f.id()], ld.files[spec.Name] = l, f.name
	for i, ref := range spec.Guests {
		if err := l.addGuest(c, i, ref); err != nil {
			return nil, err
		}
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	for i, s := range spec.Stages {
		for j, entry := range s.Needs {
			if ParseNeed(entry).Spec == "" {
				continue
			}
			ld.way = append(ld.way, step{f.id(), spec.Name, s.Name, entry})
			err := ld.need(l, c, at("stages", i, "needs", j), entry)
			ld.way = ld.way[:len(ld.way)-1]
			if err != nil {
				return nil, err
			}
		}
	}
	return l, c.err()
}

// need reads the spec that an entry of l's needs names. What is wrong with the entry goes to the report of l's file.
func (ld *loader) need(l *Loaded, c checker, where []any, entry string) error {
	n := ParseNeed(entry)
	refuse := func(format string, args ...any) { c.fail(where, format, args...) }
	name := n.Spec
	if isPath(name) {
		if l.Path == "" {
			refuse("a shipped spec needs stages of shipped specs alone")
			return nil
		}
		if !filepath.IsAbs(name) {
			name = asPath(filepath.Join(filepath.Dir(l.Path), name))
		}
	}
	f, err := find(name)
	if err != nil {
		refuse("%v", fault.Chain(err)[0].Err)
		return nil
	}
	if ring := ld.ring(f.id()); ring != "" {
		refuse("%s", ring)
		return nil
	}
	needed := ld.loaded[f.id()]
	if needed == nil {
		if needed, err = ld.load(f, refuse); needed == nil {
			return err
		}
	}
	if err == nil {
		needed.serves(l, n.Stage, refuse)
		l.Needed[needed.Spec.Name], l.needRefs[n.Spec] = needed, needed.Spec.Name
	}
	return err
}

// asPath writes a relative path so that it is told from a shipped name.
func asPath(path string) string {
	if isPath(path) {
		return path
	}
	return "./" + path
}

// ring says how specs need each other, where the file that is needed next is on the way already.
func (ld *loader) ring(file string) string {
	for i, s := range ld.way {
		if s.file != file {
			continue
		}
		ring := ld.way[i:]
		if len(ring) == 1 {
			return fmt.Sprintf("%s is this spec itself: write %s", s.need, ParseNeed(s.need).Stage)
		}
		var all []string
		for k, s := range ring {
			next := ring[(k+1)%len(ring)].spec
			all = append(all, fmt.Sprintf("%s#%s needs %s#%s", s.spec, s.stage, next, ParseNeed(s.need).Stage))
		}
		return "specs need each other in a ring: " + strings.Join(all, ", ")
	}
	return ""
}

// serves checks that a needed spec has the stage, and builds in every guest of the spec that needs it.
func (l *Loaded) serves(by *Loaded, stage string, refuse func(format string, args ...any)) {
	if l.Spec.Stage(stage) == nil {
		var stages []string
		for _, s := range l.Spec.Stages {
			stages = append(stages, s.Name)
		}
		refuse("the spec %s has no stage %q%s", l.Spec.Name, stage, suggest(stage, stages))
	}
	for _, name := range by.names {
		mine, its := by.Guests[name], l.Guests[name]
		switch {
		case its == nil:
			refuse("%s does not build in the guest %s, and a stage's needs run where it runs: it builds in %s",
				l.Spec.Name, name, strings.Join(l.names, ", "))
		case digest(canonical(mine)) != digest(canonical(its)):
			refuse("%s means another guest by the name %s: its %s differs", l.Spec.Name, name,
				cmp.Or(strings.Join(differing(mine, its), ", "), "name"))
		}
	}
}

// differing lists the fields in which two guests differ.
func differing(a, b *Guest) []string {
	x, y := map[string]string{}, map[string]string{}
	fields(x, "", canonical(a))
	fields(y, "", canonical(b))
	var all []string
	for _, key := range changedKeys(x, y) {
		all = append(all, strings.TrimPrefix(key, "."))
	}
	return all
}
