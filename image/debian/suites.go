package debian

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Merge makes one index of several suites'. Of a package in several the highest version comes first, as apt has it
// where all suites have the same priority (apt_preferences(5)); where two have the same version, the suite that is
// named first gives it.
func Merge(all ...*Index) *Index {
	if len(all) == 1 {
		return all[0]
	}
	m := &Index{Packages: map[string][]*Package{}, providers: map[string][]provider{}}
	var names, suites []string
	dropped := map[*Package]bool{}
	for _, idx := range all {
		names, suites = append(names, idx.Name), append(suites, idx.Suite)
		for name, versions := range idx.Packages {
			for _, p := range versions {
				if slices.ContainsFunc(m.Packages[name], p.same) {
					dropped[p] = true
					continue
				}
				m.Packages[name] = append(m.Packages[name], p)
			}
		}
		for name, ps := range idx.providers {
			for _, p := range ps {
				if !dropped[p.pkg] {
					m.providers[name] = append(m.providers[name], p)
				}
			}
		}
	}
	m.Name, m.Suite = strings.Join(names, ", "), strings.Join(suites, ", ")
	m.sort()
	return m
}

// same reports whether another package is of the same name, version and architecture. Its bytes may differ: then
// somebody built it twice, and the suite named first is believed.
func (p *Package) same(q *Package) bool {
	return p.Name == q.Name && p.Version == q.Version && p.Arch == q.Arch
}

// FindSource looks a source package up in several suites' main/source/Sources, and says whose it is. An empty version
// means the highest one; of the same version in two suites, the suite named first gives it.
func FindSource(ctx context.Context, suites []*Archive, name, version string) (*Source, *Archive, error) {
	var found *Source
	var of *Archive
	var have, suiteNames []string
	known := map[string]bool{}
	for _, a := range suites {
		if err := a.loadSources(ctx); err != nil {
			return nil, nil, err
		}
		suiteNames = append(suiteNames, a.suite)
		for n := range a.sources {
			known[n] = true
		}
		for _, s := range a.sources[name] {
			have = append(have, s.Version)
			if version != "" && s.Version != version {
				continue
			}
			if found == nil || mustCompare(s.Version, found.Version) > 0 {
				found, of = s, a
			}
		}
	}
	in := strings.Join(suiteNames, ", ")
	switch {
	case found != nil:
		return found, of, nil
	case have == nil:
		return nil, nil, unknownName("find source package", name, in, slices.Collect(maps.Keys(known)))
	}
	return nil, nil, fault.New(fault.Input, "find source package", "%s %s is not in %s, which has %s",
		name, version, in, strings.Join(have, ", ")).
		WithRemedy("Name one of these versions; for an older one, pin the guest's suite to a moment that had it " +
			"(snapshot: 20260101T000000Z).")
}
