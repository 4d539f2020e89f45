package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
)

// seed picks the names: those whose SHA-256 behind it is least. A name that comes into the archive, or leaves it,
// then changes one of the picked at most.
const seed = "belljar closure 1 "

// asked lists what is compared: the picked names, each package of the shipped specs' closures, and each spec's roots
// together.
func asked(idx *debian.Index, t target, o options) ([][]string, error) {
	if o.only != "" {
		return [][]string{strings.Split(o.only, "+")}, nil
	}
	names := slices.Collect(maps.Keys(idx.Packages))
	rank := func(name string) string { s := sha256.Sum256([]byte(seed + name)); return string(s[:]) }
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	picked := names[:min(o.n, len(names))]
	all := map[string]bool{}
	for _, n := range picked {
		all[n] = true
	}
	var groups [][]string
	for _, spec := range specs.Shipped() {
		l, err := specs.Load(spec)
		if err != nil {
			return nil, err
		}
		roots := map[string]bool{}
		for _, s := range l.Spec.Stages {
			for _, p := range s.Packages {
				roots[p] = true
			}
		}
		for _, g := range l.Guests {
			for _, p := range g.Packages {
				roots[p] = true
			}
		}
		list := slices.Sorted(maps.Keys(roots))
		c, err := debian.Resolve(idx, t.arch, list, debian.Options{})
		if err != nil {
			return nil, fmt.Errorf("packages of %s: %w", spec, err)
		}
		for _, p := range c.Packages {
			all[p.Name] = true
		}
		groups = append(groups, list)
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		groups = append(groups, []string{n})
	}
	return groups, nil
}

// essentials are the Essential packages and, where one of them wants it or a program that merges an old tree, the package
// that says that the tree is merged from the start.
func essentials(idx *debian.Index, arch string) []string {
	c, err := debian.Resolve(idx, arch, nil, debian.Options{})
	if err != nil {
		return nil
	}
	var all []string
	for _, p := range c.Packages {
		if p.Essential || p.Name == "usr-is-merged" {
			all = append(all, p.Name)
		}
	}
	return all
}

// outcome is what comparing one list of names came to.
type outcome struct {
	difference string // "" if there is none
	refused    bool   // by both
	took       time.Duration
	err        error // apt could not be asked
}

func compare(ctx context.Context, apt *aptRoot, idx *debian.Index, arch string, essential, names []string) outcome {
	var o outcome
	start := time.Now()
	closure, refusal := debian.Resolve(idx, arch, names, debian.Options{})
	o.took = time.Since(start)
	want, err := apt.install(ctx, append(slices.Clone(essential), names...))
	if err != nil {
		o.err = err
		return o
	}
	switch {
	case refusal != nil && want == nil:
		o.refused = true
		return o
	case refusal != nil:
		o.difference = "apt installs it, Belljar refuses: " + refusal.Error()
		return o
	case want == nil:
		o.difference = "apt refuses it, Belljar installs it"
		return o
	}
	var got []string
	for _, p := range closure.Packages {
		got = append(got, p.Name+" "+p.Version)
	}
	o.difference = difference(want, got)
	return o
}

// difference lists what only one side has: -name for apt alone, +name for Belljar alone.
func difference(apt, belljar []string) string {
	var all []string
	for _, p := range apt {
		if !slices.Contains(belljar, p) {
			all = append(all, "-"+strings.ReplaceAll(p, " ", "="))
		}
	}
	for _, p := range belljar {
		if !slices.Contains(apt, p) {
			all = append(all, "+"+strings.ReplaceAll(p, " ", "="))
		}
	}
	return strings.Join(all, " ")
}

// explained are the differences that are meant.
type explained struct {
	file  string
	lines []explanation
}

// explanation is a line of explained.txt: 'bookworm/amd64 NAME -apt +belljar # reason', versions left out.
type explanation struct {
	line               int
	target, name, text string
	used               bool
}

func readExplained(file string) (*explained, error) {
	e := &explained{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		text, reason, ok := strings.Cut(line, "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 || !ok || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: want 'SUITE/ARCH NAME -PACKAGE +PACKAGE… # reason'", file, n)
		}
		e.lines = append(e.lines, explanation{line: n, target: f[0], name: f[1], text: strings.Join(f[2:], " ")})
	}
	return e, nil
}

// has reports whether a difference is explained, and remembers that the explanation was needed.
func (e *explained) has(t target, name, difference string) bool {
	var words []string
	for _, w := range strings.Fields(difference) {
		w, _, _ = strings.Cut(w, "=")
		words = append(words, w)
	}
	for i := range e.lines {
		x := &e.lines[i]
		if x.target == t.String() && x.name == name && x.text == strings.Join(words, " ") {
			x.used = true
			return true
		}
	}
	return false
}

// unused lists explanations that explained nothing.
func (e *explained) unused() []string {
	var all []string
	for _, x := range e.lines {
		if !x.used {
			all = append(all, fmt.Sprintf("%s:%d", e.file, x.line))
		}
	}
	return all
}
