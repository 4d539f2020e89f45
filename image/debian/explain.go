package debian

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// unsatisfiable explains why a group of alternatives cannot be fulfilled, with the chain of packages that asked for it.
func (r *resolver) unsatisfiable(n need) error {
	var why []string
	for _, rel := range n.group {
		why = append(why, r.whyNot(rel))
	}
	return fault.New(fault.Input, "resolve packages", "%s needs %s, but %s: wanted by %s", n.of.Name, n.group,
		strings.Join(why, "; "), n.of.chain()).
		WithRemedy("Pin no version that the suite cannot go with, or use a suite in which %s can be installed.",
			n.of.Name)
}

func (r *resolver) whyNot(rel Relation) string {
	suite := r.idx.Suite
	if !r.qualifies(rel) {
		return fmt.Sprintf("%s is of another architecture than %s", rel.Name, r.arch)
	}
	if p := r.candidate(rel.Name); p != nil {
		if r.pins[rel.Name] != nil {
			return fmt.Sprintf("%s is pinned to %s", rel.Name, p.Version)
		}
		return fmt.Sprintf("%s has %s %s", suite, rel.Name, p.Version)
	}
	if ps := r.idx.providers[rel.Name]; len(ps) > 0 {
		return fmt.Sprintf("%s has %s only as a virtual package, provided in no such version by %s", suite, rel.Name,
			strings.Join(providerNames(ps), ", "))
	}
	if arches := r.arches(rel.Name); arches != "" {
		return fmt.Sprintf("%s has %s for %s only", suite, rel.Name, arches)
	}
	return fmt.Sprintf("%s has no %s", suite, rel.Name)
}

// arches are the architectures for which the index has a package.
func (r *resolver) arches(name string) string {
	var all []string
	for _, p := range r.idx.Packages[name] {
		if !slices.Contains(all, p.Arch) {
			all = append(all, p.Arch)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func providerNames(ps []provider) []string {
	var names []string
	for _, p := range ps {
		names = append(names, p.pkg.Name)
	}
	return slices.Compact(names)
}

// unknownName is the error for a package that is not there, with the nearest names that are.
func unknownName(op, name, suite string, known []string) *fault.Error {
	e := fault.New(fault.Input, op, "%s has no package %q", suite, name)
	if near := nearest(name, known, 5); len(near) > 0 {
		return e.WithRemedy("Did you mean %s?", strings.Join(near, ", "))
	}
	return e.WithRemedy("Look the name up at packages.debian.org; only the component main is searched.")
}

// Nearest lists up to n of the names that somebody is likely to have meant.
func Nearest(name string, names []string, n int) []string { return nearest(name, names, n) }

// nearest lists up to n of the names that are most like name, by edit distance: at most a third of its length away.
func nearest(name string, names []string, n int) []string {
	type near struct {
		name     string
		distance int
	}
	bound := max(1, len(name)/3)
	var all []near
	for _, candidate := range names {
		if d := len(candidate) - len(name); d > bound || -d > bound {
			continue
		}
		if d := editDistance(name, candidate); d <= bound {
			all = append(all, near{candidate, d})
		}
	}
	slices.SortFunc(all, func(a, b near) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, a := range all[:min(n, len(all))] {
		out = append(out, a.name)
	}
	return out
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours between two names (the optimal
// string alignment distance).
func editDistance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
