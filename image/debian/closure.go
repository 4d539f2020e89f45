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
	depth   int     // in the chain of packages that pulled it in
	head    string  // that chain's beginning
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
// All Essential packages and roots are chosen first; then their needs are met one after the other, depth first, as apt
// does it. A group of alternatives is fulfilled by a package chosen already; else by a preferred one; else by the first
// alternative that can be: by the package of that name before one that provides it. The roots' order does not matter:
// they are sorted.
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
	if err := r.checkPreDepends(c); err != nil {
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
	roots    []*Chosen             // Essential packages and roots, in the order in which their needs are met
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
		c, err := r.choose(root.pkg, nil, root.origin)
		if err != nil {
			return err
		}
		r.roots = append(r.roots, c)
	}
	if r.opts.NoEssential {
		return nil
	}
	var essential []*Chosen // met first: a root's choice must not hang on what the base has not chosen yet
	for _, name := range r.idx.essential {
		if p := r.candidate(name); p != nil && p.Essential {
			c, err := r.choose(p, nil, "Essential")
			if err != nil {
				return err
			}
			essential = append(essential, c)
		}
	}
	r.roots = append(essential, r.roots...)
	return nil
}

// root finds the package that a root names. A name that is only provided stands for its one provider, as it does for
// apt; where there are more, which one is meant is the user's to say.
func (r *resolver) root(name, version string, pinned bool) (*Package, *fault.Error) {
	if !pinned {
		if p := r.candidate(name); p != nil {
			return p, nil
		}
		if ps := r.idx.providers[name]; len(ps) > 0 {
			if names := providerNames(ps); len(names) == 1 {
				if p := r.candidate(names[0]); p != nil {
					return p, nil
				}
			}
			return nil, fault.New(fault.Input, "resolve packages", "%s is a virtual package in %s", name, r.idx.Suite).
				WithRemedy("Name one of the packages that provide it: %s.", strings.Join(providerNames(ps), ", "))
		}
		if arches := r.arches(name); arches != "" {
			return nil, fault.New(fault.Input, "resolve packages", "%s has %s for %s, not for %s", r.idx.Suite, name, arches,
				r.arch).WithRemedy("Name a package of the guest's own architecture.")
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

// choose takes a package into the closure, if it is not there yet; what it needs is left for expand.
func (r *resolver) choose(p *Package, by *Chosen, origin string) (*Chosen, error) {
	if c := r.chosen[p.Name]; c != nil {
		return c, nil
	}
	c := &Chosen{Package: p, by: by, origin: origin}
	c.Why = c.chain()
	r.chosen[p.Name] = c
	for _, f := range []struct{ name, text string }{{"Pre-Depends", p.PreDepends}, {"Depends", p.Depends}} {
		groups, err := r.relations(p, f.name, f.text)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			c.pending = append(c.pending, need{c, f.name, g})
		}
	}
	provides, err := r.relations(p, "Provides", p.Provides)
	if err != nil {
		return nil, err
	}
	for _, g := range provides {
		r.provided[g[0].Name] = append(r.provided[g[0].Name], provider{p, g[0].Version})
	}
	return c, nil
}

func (r *resolver) relations(p *Package, field, text string) ([]Alternatives, error) {
	groups, err := ParseRelations(text)
	if err != nil {
		return nil, fault.New(fault.Input, "read "+p.Index, "line %d: package %s: %s: %w",
			p.Line, p.Name, field, err)
	}
	return groups, nil
}

// follow fulfils what the packages chosen so far need, and what these need, in apt's order (apt-pkg/depcache.cc,
// MarkInstall): of each package one group after the other, Pre-Depends first, and all that a newly chosen package needs
// before the next group is looked at.
func (r *resolver) follow() error {
	for _, c := range r.roots {
		if err := r.expand(c); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) expand(c *Chosen) error {
	for _, n := range c.pending {
		if r.fulfilled(n.group) {
			continue
		}
		p, err := r.pick(n)
		if err != nil {
			return err
		}
		next, err := r.choose(p, c, "")
		if err != nil {
			return err
		}
		if err := r.expand(next); err != nil {
			return err
		}
	}
	return nil
}

// pick is the package that a group is fulfilled by: the first that conflicts with nothing chosen and whose own needs
// can be met. Where no alternative is left, the first is taken all the same: what is wrong with it makes a better error.
func (r *resolver) pick(n need) (*Package, error) {
	options := r.options(n.group)
	if len(options) == 0 {
		return nil, r.unsatisfiable(n)
	}
	if len(options) == 1 {
		return options[0], nil
	}
	for _, p := range options {
		ok, err := r.installable(p)
		if err != nil {
			return nil, err
		}
		if ok {
			return p, nil
		}
	}
	return options[0], nil
}

// link notes by which packages of the closure a package's needs are fulfilled, for whoever orders them.
func (r *resolver) link(c *Chosen) error {
	for _, n := range c.pending {
		to := &c.Depends
		if n.field == "Pre-Depends" {
			to = &c.PreDepends
		}
		if p := r.fulfiller(n.group); p != nil && p.Name != c.Name {
			*to = append(*to, p.Name)
		}
	}
	for _, list := range []*[]string{&c.PreDepends, &c.Depends} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	c.pending = nil
	return nil
}

// fulfiller is the first package of the closure that fulfils a group.
func (r *resolver) fulfiller(group Alternatives) *Package {
	for _, rel := range group {
		for p := range r.fulfillers(rel) {
			return p
		}
	}
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
				for p := range r.fulfillers(g[0]) {
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

// maxChain bounds the packages that a chain names. Debian's chains are shorter; in an archive that is one long chain,
// the texts of all its packages would fill the memory.
const maxChain = 40

// chain says who pulled a package in, from the root on.
func (c *Chosen) chain() string {
	if c.by == nil {
		c.head = c.origin + " → " + c.Name
		return c.head
	}
	c.depth, c.head = c.by.depth+1, c.by.head
	if c.depth >= maxChain {
		return c.head + " → … → " + c.by.Name + " → " + c.Name
	}
	why := c.by.Why + " → " + c.Name
	if c.depth < maxChain/2 {
		c.head = why
	}
	return why
}
