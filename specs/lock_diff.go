package specs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What can become of something between two locks.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed" // another version
	Moved   = "moved"   // the same version, of another suite
	Rebuilt = "rebuilt" // the same version, other contents: that should not happen
)

// Change is one thing that differs between two locks.
type Change struct {
	Guest    string `json:"guest,omitempty"`     // of which guest; empty for a source
	Kind     string `json:"kind"`                // spec, source, guest, package, kernel, architecture, suite, snapshot, …
	Name     string `json:"name,omitempty"`      // of a source or a package
	What     string `json:"change"`              // added, removed, changed, moved or rebuilt
	Old      string `json:"old,omitempty"`       // the version that it was, or what the guest's property was
	New      string `json:"new,omitempty"`       // the version that it is
	OldSuite string `json:"old_suite,omitempty"` // of a package: the suite that it came from
	NewSuite string `json:"new_suite,omitempty"` // and comes from
	Security bool   `json:"security,omitempty"`  // the new one is a security update
}

// String is the change in one line.
func (c Change) String() string {
	what := c.Kind
	if c.Name != "" {
		what += " " + c.Name
	}
	if c.Guest != "" {
		what = c.Guest + ": " + what
	}
	if c.Kind == "guest" {
		what = c.Guest + ":"
	}
	suite := ""
	if c.Security {
		suite = " (" + c.NewSuite + ")"
	}
	switch c.What {
	case Added:
		if c.Kind == "guest" {
			return what + " added, " + c.New
		}
		return what + " " + c.New + " added" + suite
	case Removed:
		return strings.TrimSuffix(what+" "+c.Old, " ") + " removed"
	case Moved:
		return fmt.Sprintf("%s %s: %s → %s", what, c.New, c.OldSuite, c.NewSuite)
	case Rebuilt:
		return fmt.Sprintf("%s %s: the same version, other contents%s", what, c.New, suite)
	}
	return fmt.Sprintf("%s %s → %s%s", what, c.Old, c.New, suite)
}

// Diff says what differs between two locks: the needed specs, the sources, and of each guest its properties and its packages. A lock that
// is nil has nothing.
func Diff(old, new *Lock) []Change {
	if old == nil {
		old = &Lock{}
	}
	if new == nil {
		new = &Lock{}
	}
	out := diffLists(old.Needs, new.Needs, func(n NeededLock) entry {
		return entry{"spec", n.Name, n.Lock[:min(len(n.Lock), 12)], n.Lock, ""}
	})
	out = append(out, diffLists(old.Sources, new.Sources, func(s LockedSource) entry {
		digest := filesDigest(s.Files)
		return entry{"source", s.Name, cmp.Or(s.Version, s.Commit, digest), digest, s.Suite}
	})...)
	all := map[string]bool{}
	for _, l := range []*Lock{old, new} {
		for name := range l.Guests {
			all[name] = true
		}
	}
	for _, name := range sortedKeys(all) {
		for _, c := range diffGuests(old.Guests[name], new.Guests[name]) {
			c.Guest = name
			out = append(out, c)
		}
	}
	return out
}

func diffGuests(a, b *LockedGuest) []Change {
	switch {
	case a == nil:
		return []Change{{Kind: "guest", What: Added, New: fmt.Sprintf("%d packages", len(b.Packages))}}
	case b == nil:
		return []Change{{Kind: "guest", What: Removed}}
	}
	var out []Change
	for _, f := range []struct{ kind, old, new string }{
		{"architecture", a.Arch, b.Arch},
		{"suite", a.suites(), b.suites()},
		{"snapshot", a.Release.Snapshot, b.Release.Snapshot},
		{"machine", a.Machine, b.Machine},
		{"CPU", a.CPU, b.CPU},
		{"clock", a.Clock.Format(time.RFC3339), b.Clock.Format(time.RFC3339)},
	} {
		if f.old != f.new {
			out = append(out, Change{Kind: f.kind, What: Changed, Old: f.old, New: f.new})
		}
	}
	of := func(g *LockedGuest) func(Package) entry {
		return func(p Package) entry {
			e := entry{"package", p.Name, p.Version, p.SHA256, cmp.Or(p.Suite, g.Suite)}
			if p.Kernel { // its name has the version in it
				e.kind, e.name, e.version = "kernel", "", p.Name+" "+p.Version
			}
			return e
		}
	}
	return append(out, diffEntries(index(a.Packages, of(a)), index(b.Packages, of(b)))...)
}

// suites names all the suites of a guest.
func (g *LockedGuest) suites() string {
	names := []string{g.Suite}
	for _, s := range g.Suites {
		names = append(names, s.Suite)
	}
	return strings.Join(names, " ")
}

// entry is what a comparison looks at in an element of a list.
type entry struct{ kind, name, version, digest, suite string }

func diffLists[E any](old, new []E, of func(E) entry) []Change {
	return diffEntries(index(old, of), index(new, of))
}

func index[E any](list []E, of func(E) entry) map[string]entry {
	m := map[string]entry{}
	for _, e := range list {
		x := of(e)
		m[x.kind+" "+x.name] = x
	}
	return m
}

func diffEntries(a, b map[string]entry) []Change {
	both := maps.Clone(a)
	maps.Copy(both, b)
	var out []Change
	for _, key := range sortedKeys(both) {
		x, inOld := a[key]
		y, inNew := b[key]
		c := Change{
			Kind: both[key].kind, Name: both[key].name, Old: x.version, New: y.version,
			OldSuite: x.suite, NewSuite: y.suite, Security: isSecurity(y.suite),
		}
		switch {
		case !inOld:
			c.What = Added
		case !inNew:
			c.What = Removed
		case x.version != y.version:
			c.What = Changed
		case x.digest != y.digest:
			c.What = Rebuilt
		case x.suite != y.suite && x.suite != "" && y.suite != "":
			c.What = Moved
		default:
			continue
		}
		out = append(out, c)
	}
	return out
}

func isSecurity(suite string) bool { return strings.HasSuffix(suite, "-security") }

func filesDigest(files []File) string {
	var digests []string
	for _, f := range files {
		digests = append(digests, f.SHA256)
	}
	if len(digests) == 1 {
		return digests[0]
	}
	slices.Sort(digests)
	return digest(digests)
}
