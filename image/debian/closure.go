package debian

import (
	"maps"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Options of Resolve; the zero value is a plain closure.
type Options struct {
	// Origins says who asked for a root, for errors and for Why: "seabios.yaml". A root not in it is "asked for".
	Origins map[string]string
	// Prefer lists packages that win among alternatives where they would do, as if they were chosen already.
	Prefer []string
	// NoEssential leaves out the packages marked Essential: only what the roots need is chosen.
	NoEssential bool
}

// usrMerged is preferred among the alternatives 'usrmerge | usr-is-merged', on which the essential
// init-system-helpers depends: a tree that is laid out merged from the start needs no program that merges it.
const usrMerged = "usr-is-merged"

// Closure is a set of packages that is complete: whatever one of them depends on is in it.
type Closure struct {
	Arch     string
	Packages []*Chosen // sorted by name
}

// Chosen is a package of a closure.
type Chosen struct {
	*Package
	Why        string   // who pulled it in: "seabios.yaml → make → libc6"
	PreDepends []string // the names in the closure that fulfil its Pre-Depends, sorted
	Depends    []string // likewise its Depends

	by      *Chosen // nil for a root or an essential package
	origin  string  // of a root
	pending []need
}

// need is a group of alternatives that a chosen package asks for.
type need struct {
	of    *Chosen
	field string
	group Alternatives
}

// Find is the chosen package of that name, nil where there is none.
func (c *Closure) Find(name string) *Chosen {
	byName := func(p *Chosen, n string) int { return strings.Compare(p.Name, n) }
	i, ok := slices.BinarySearchFunc(c.Packages, name, byName)
	if !ok {
		return nil
	}
	return c.Packages[i]
}

// Resolve finds the packages that the roots need: every Essential package, the roots ("make" or "make=4.3-4.1"), and
// their Pre-Depends and Depends, transitively. Recommends play no part.
//
// Of a name, the highest version in the index is the candidate, or the one that a root pins. There is no backtracking.
// A group of alternatives is fulfilled by a package chosen already; else by a preferred one; else by the first
// alternative that can be: by the package of that name before one that provides it, as apt does. Groups with one
// possible package are followed before groups with a choice, so that the outcome does not hang on the roots' order.
func Resolve(idx *Index, arch string, roots []string, opts Options) (*Closure, error) {
	r := &resolver{idx: idx, arch: arch, opts: opts, chosen: map[string]*Chosen{}, pins: map[string]*Package{},
		provided: map[string][]provider{}}
	if err := r.addRoots(roots); err != nil {
		return nil, err
	}
	if err := r.follow(); err != nil {
		return nil, err
	}
	c := &Closure{Arch: arch}
	for _, name := range slices.Sorted(maps.Keys(r.chosen)) {
		c.Packages = append(c.Packages, r.chosen[name])
	}
	for _, p := range c.Packages {
		if err := r.link(p); err != nil {
			return nil, err
		}
	}
	if err := r.checkConflicts(c.Packages); err != nil {
		return nil, err
	}
	return c, nil
}

type resolver struct {
	idx      *Index
	arch     string
	opts     Options
	chosen   map[string]*Chosen
	pins     map[string]*Package
	provided map[string][]provider // what chosen packages provide
	single   []need                // groups with one possible package, or not looked at yet
	multi    []need                // groups with a choice
}

func (r *resolver) addRoots(roots []string) error {
	type root struct {
		pkg    *Package
		origin string
	}
	var all []root
	for _, spec := range roots {
		name, version, pinned := strings.Cut(spec, "=")
		origin := r.opts.Origins[spec]
		if origin == "" {
			origin = "asked for"
		}
		pkg, err := r.root(name, version, pinned)
		if err != nil {
			return err.WithEvidence("wanted by", origin)
		}
		if other := r.pins[name]; pinned && other != nil && other != pkg {
			return fault.New(fault.Input, "resolve packages", "%s is pinned to both %s and %s",
				name, other.Version, version)
		}
		if pinned {
			r.pins[name] = pkg
		}
		all = append(all, root{pkg, origin})
	}
	slices.SortStableFunc(all, func(a, b root) int { return strings.Compare(a.pkg.Name, b.pkg.Name) })
	for _, root := range all {
		if pin := r.pins[root.pkg.Name]; pin != nil {
			root.pkg = pin
		}
		if err := r.choose(root.pkg, nil, root.origin); err != nil {
			return err
		}
	}
	if r.opts.NoEssential {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.idx.Packages)) {
		if p := r.candidate(name); p != nil && p.Essential {
			if err := r.choose(p, nil, "Essential"); err != nil {
				return err
			}
		}
	}
	return nil
}

// root finds the package that a root names. A name that is only provided has no version and is not one.
func (r *resolver) root(name, version string, pinned bool) (*Package, *fault.Error) {
	if !pinned {
		if p := r.candidate(name); p != nil {
			return p, nil
		}
		if ps := r.idx.providers[name]; len(ps) > 0 {
			return nil, fault.New(fault.Input, "resolve packages", "%s is a virtual package in %s", name, r.idx.Suite).
				WithRemedy("Name one of the packages that provide it: %s.", strings.Join(providerNames(ps), ", "))
		}
		return nil, unknownName("resolve packages", name, r.idx.Suite, slices.Collect(maps.Keys(r.idx.Packages)))
	}
	var have []string
	for _, p := range r.idx.Packages[name] {
		if p.Version == version && r.fits(p) {
			return p, nil
		}
		have = append(have, p.Version)
	}
	if have == nil {
		return nil, unknownName("resolve packages", name, r.idx.Suite, slices.Collect(maps.Keys(r.idx.Packages)))
	}
	return nil, fault.New(fault.Input, "resolve packages", "%s=%s is not in %s, which has %s",
		name, version, r.idx.Suite,
		strings.Join(have, ", ")).
		WithRemedy("Pin one of these versions, or leave the version out.")
}

func (r *resolver) fits(p *Package) bool { return p.Arch == r.arch || p.Arch == "all" }

// candidate is the version of a package that may be chosen: the pinned one, else the highest.
func (r *resolver) candidate(name string) *Package {
	if p := r.pins[name]; p != nil {
		return p
	}
	for _, p := range r.idx.Packages[name] {
		if r.fits(p) {
			return p
		}
	}
	return nil
}

// choose takes a package into the closure and queues what it needs.
func (r *resolver) choose(p *Package, by *Chosen, origin string) error {
	if r.chosen[p.Name] != nil {
		return nil
	}
	c := &Chosen{Package: p, by: by, origin: origin}
	c.Why = c.chain()
	r.chosen[p.Name] = c
	for _, f := range []struct{ name, text string }{{"Pre-Depends", p.PreDepends}, {"Depends", p.Depends}} {
		groups, err := r.relations(p, f.name, f.text)
		if err != nil {
			return err
		}
		for _, g := range groups {
			c.pending = append(c.pending, need{c, f.name, g})
		}
	}
	r.single = append(r.single, c.pending...)
	provides, err := r.relations(p, "Provides", p.Provides)
	if err != nil {
		return err
	}
	for _, g := range provides {
		r.provided[g[0].Name] = append(r.provided[g[0].Name], provider{p, g[0].Version})
	}
	return nil
}

func (r *resolver) relations(p *Package, field, text string) ([]Alternatives, error) {
	groups, err := ParseRelations(text)
	if err != nil {
		return nil, fault.New(fault.Input, "read "+r.idx.Name, "line %d: package %s: %s: %w",
			p.Line, p.Name, field, err)
	}
	return groups, nil
}

// follow fulfils needs until none is left: those without a choice first.
func (r *resolver) follow() error {
	for len(r.single)+len(r.multi) > 0 {
		n, forced := need{}, len(r.single) == 0
		if forced {
			n, r.multi = r.multi[0], r.multi[1:]
		} else {
			n, r.single = r.single[0], r.single[1:]
		}
		if r.fulfilled(n.group) {
			continue
		}
		options := r.options(n.group)
		switch {
		case len(options) == 0:
			return r.unsatisfiable(n)
		case len(options) > 1 && !forced:
			r.multi = append(r.multi, n)
			continue
		}
		if err := r.choose(options[0], n.of, ""); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) fulfilled(group Alternatives) bool {
	return slices.ContainsFunc(group, func(rel Relation) bool { return len(r.fulfillers(rel)) > 0 })
}

// fulfillers are the chosen packages that fulfil a relation: the one of that name first, then those that provide it.
func (r *resolver) fulfillers(rel Relation) []*Package {
	var all []*Package
	if c := r.chosen[rel.Name]; c != nil && r.matches(c.Package, rel) {
		all = append(all, c.Package)
	}
	for _, p := range r.provided[rel.Name] {
		if r.provides(p, rel) && !slices.Contains(all, p.pkg) {
			all = append(all, p.pkg)
		}
	}
	return all
}

// options are the packages that could fulfil a group, the best first.
func (r *resolver) options(group Alternatives) []*Package {
	var all []*Package
	add := func(p *Package) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	for _, rel := range group {
		if p := r.candidate(rel.Name); p != nil && r.matches(p, rel) {
			add(p)
		}
		var ps []*Package
		for _, p := range r.idx.providers[rel.Name] {
			if r.candidate(p.pkg.Name) == p.pkg && r.provides(p, rel) {
				ps = append(ps, p.pkg)
			}
		}
		slices.SortStableFunc(ps, compareProviders)
		for _, p := range ps {
			add(p)
		}
	}
	prefer := append([]string{usrMerged}, r.opts.Prefer...)
	if i := slices.IndexFunc(all, func(p *Package) bool { return slices.Contains(prefer, p.Name) }); i > 0 {
		return []*Package{all[i]}
	}
	return all
}

// compareProviders is apt's order (apt-pkg/depcache.cc, CompareProviders): Essential first, then by priority. Where
// apt falls back to the order in its cache, the name decides here.
func compareProviders(a, b *Package) int {
	if a.Essential != b.Essential {
		if a.Essential {
			return -1
		}
		return 1
	}
	if d := slices.Index(priorities, a.Priority) - slices.Index(priorities, b.Priority); d != 0 {
		return -d
	}
	return strings.Compare(a.Name, b.Name)
}

var priorities = []string{"extra", "optional", "standard", "important", "required"} // an unknown one is lowest, -1

// matches reports whether the package of the relation's own name fulfils it. A qualifier other than any and native
// names a foreign architecture, of which a closure has none (Policy 7.1; any asks for Multi-Arch: allowed, which dpkg
// demands of foreign packages only).
func (r *resolver) matches(p *Package, rel Relation) bool {
	return r.qualifies(rel) && rel.Accepts(p.Version)
}

// provides reports the same for a package that provides the name: only a versioned Provides fulfils a versioned
// relation (Policy 7.5).
func (r *resolver) provides(p provider, rel Relation) bool {
	if !r.qualifies(rel) || !r.fits(p.pkg) {
		return false
	}
	return rel.Op == "" || p.version != "" && rel.Accepts(p.version)
}

func (r *resolver) qualifies(rel Relation) bool {
	return (rel.Arch == "" || rel.Arch == "any" || rel.Arch == "native" || rel.Arch == r.arch) && rel.AppliesTo(r.arch)
}

// link notes by which packages of the closure a package's needs are fulfilled, for whoever orders them.
func (r *resolver) link(c *Chosen) error {
	for _, n := range c.pending {
		to := &c.Depends
		if n.field == "Pre-Depends" {
			to = &c.PreDepends
		}
		for _, rel := range n.group {
			ps := r.fulfillers(rel)
			if len(ps) == 0 {
				continue
			}
			if ps[0].Name != c.Name {
				*to = append(*to, ps[0].Name)
			}
			break
		}
	}
	for _, list := range []*[]string{&c.PreDepends, &c.Depends} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	c.pending = nil
	return nil
}

// checkConflicts looks for two chosen packages that cannot be unpacked (Conflicts) or configured (Breaks) together.
func (r *resolver) checkConflicts(all []*Chosen) error {
	for _, c := range all {
		for _, f := range []struct{ name, text string }{{"Conflicts", c.Conflicts}, {"Breaks", c.Breaks}} {
			groups, err := r.relations(c.Package, f.name, f.text)
			if err != nil {
				return err
			}
			for _, g := range groups {
				for _, p := range r.fulfillers(g[0]) {
					// A package never conflicts with itself, nor with what it provides (Policy 7.4).
					if p.Name == c.Name {
						continue
					}
					return fault.New(fault.Input, "resolve packages", "%s %s says %s: %s, but %s %s is needed too",
						c.Name, c.Version, f.name, g[0], p.Name, p.Version).
						WithEvidence("wanted by", c.Why+"\n"+r.chosen[p.Name].Why).
						WithRemedy("Leave one of the two out, or prefer another alternative.")
				}
			}
		}
	}
	return nil
}

// chain says who pulled a package in, from the root on.
func (c *Chosen) chain() string {
	if c.by == nil {
		return c.origin + " → " + c.Name
	}
	return c.by.chain() + " → " + c.Name
}
