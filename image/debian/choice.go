package debian

import (
	"iter"
	"slices"
	"strings"
)

// installable reports whether a package could join the chosen ones, as far as its own fields and theirs say.
func (r *resolver) installable(p *Package) (bool, error) {
	for _, f := range []struct{ name, text string }{{"Conflicts", p.Conflicts}, {"Breaks", p.Breaks}} {
		groups, err := r.relations(p, f.name, f.text)
		if err != nil {
			return false, err
		}
		for _, g := range groups {
			for other := range r.fulfillers(g[0]) {
				if other.Name != p.Name {
					return false, nil
				}
			}
		}
	}
	for _, f := range []struct{ name, text string }{{"Pre-Depends", p.PreDepends}, {"Depends", p.Depends}} {
		groups, err := r.relations(p, f.name, f.text)
		if err != nil {
			return false, err
		}
		for _, g := range groups {
			if !r.fulfilled(g) && len(r.options(g)) == 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

func (r *resolver) fulfilled(group Alternatives) bool {
	return r.fulfiller(group) != nil
}

// fulfillers are the chosen packages that fulfil a relation: the one of that name first, then those that provide it.
// One may come twice.
func (r *resolver) fulfillers(rel Relation) iter.Seq[*Package] {
	return func(yield func(*Package) bool) {
		if c := r.chosen[rel.Name]; c != nil && r.matches(c.Package, rel) && !yield(c.Package) {
			return
		}
		for _, p := range r.provided[rel.Name] {
			if r.provides(p, rel) && !yield(p.pkg) {
				return
			}
		}
	}
}

// options are the packages that could fulfil a group, the best first.
func (r *resolver) options(group Alternatives) []*Package {
	var all []*Package
	seen := map[*Package]bool{}
	add := func(p *Package) {
		if !seen[p] {
			seen[p] = true
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
