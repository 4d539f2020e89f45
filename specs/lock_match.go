package specs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Matches says whether l was made for that spec, as it stands now: if not, an input fault that lists what changed.
func (l *Lock) Matches(loaded *Loaded) error {
	if l.Spec.Name == loaded.Spec.Name && l.Spec.Digest == loaded.Digest() {
		return l.complete(loaded)
	}
	changes := l.changes(loaded)
	if l.Spec.Name != loaded.Spec.Name {
		changes = []string{fmt.Sprintf("it was made for the spec %s", l.Spec.Name)}
	}
	// The same spec by its sections: the lock's digest itself was tampered with, or an older program made it.
	if len(changes) == 0 {
		changes = []string{"its digest is another"}
	}
	return fault.New(fault.Input, "check lock", "the lock is not that of the spec %s as it stands: %s",
		loaded.Spec.Name, strings.Join(changes, "; ")).WithRemedy("make it anew: belljar lock %s", loaded.ref())
}

// complete guards against a lock whose digest is right and whose contents are not: a bad merge makes such.
func (l *Lock) complete(loaded *Loaded) error {
	missing := l.lacks(loaded)
	for _, name := range sortedKeys(loaded.Needed) {
		if !slices.ContainsFunc(l.Needs, func(n NeededLock) bool { return n.Name == name }) {
			missing = append(missing, "spec "+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.Input, "check lock", "the lock lacks %s", strings.Join(missing, ", ")).
		WithRemedy("make it anew: belljar lock %s", loaded.ref())
}

// lacks lists the guests and sources of a spec that are not locked.
func (l *Lock) lacks(loaded *Loaded) (missing []string) {
	for _, name := range loaded.names {
		if l.Guests[name] == nil {
			missing = append(missing, "guest "+name)
		}
	}
	for _, s := range loaded.Spec.Sources {
		if !slices.ContainsFunc(l.Sources, func(f LockedSource) bool { return f.Name == s.Name }) {
			missing = append(missing, "source "+s.Name)
		}
	}
	return missing
}

// changes lists the sections in which the spec differs from the one that was locked, in words.
// A stage or guest that came or went is named once, not field by field.
func (l *Lock) changes(loaded *Loaded) []string {
	old, now := l.Spec.Sections, loaded.Sections()
	var out []string
	moved := map[string]bool{} // lists whose change is explained by what came or went
	for _, key := range changedKeys(old, now) {
		object := objectOf(key)
		word := "changed"
		switch {
		case !hasObject(old, object):
			word, key = "added", object
		case !hasObject(now, object):
			word, key = "removed", object
		case old[key] == "":
			word = "added"
		case now[key] == "":
			word = "removed"
		}
		if key == object && word != "changed" {
			moved[strings.SplitN(key, ".", 2)[0]] = true
		}
		if line := key + " " + word; !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return slices.DeleteFunc(out, func(line string) bool {
		list, ok := strings.CutSuffix(line, " changed")
		return ok && moved[list]
	})
}

// changedKeys are the sections that only one has, or that differ; sorted.
func changedKeys(old, now map[string]string) []string {
	all := map[string]bool{}
	for _, m := range []map[string]string{old, now} {
		for k := range m {
			all[k] = old[k] != now[k]
		}
	}
	maps.DeleteFunc(all, func(_ string, changed bool) bool { return !changed })
	return sortedKeys(all)
}

// objectOf is the object that a section is part of: stages.build for stages.build.script. Names may have dots in them,
// fields do not; sources and smoke tests are a section each.
func objectOf(key string) string {
	list, rest, ok := strings.Cut(key, ".")
	if !ok || list == "sources" || list == "smoke" {
		return key
	}
	if i := strings.LastIndexByte(rest, '.'); i >= 0 {
		return list + "." + rest[:i]
	}
	return key
}

func hasObject(sections map[string]string, object string) bool {
	for k := range sections {
		if objectOf(k) == object {
			return true
		}
	}
	return false
}

// resolvedFields are the fields of a stage or guest that decide what a lock resolves.
var resolvedFields = []string{"packages", "arch", "suite", "security", "updates", "snapshot", "kernel"}

// NeedsResolve says whether the spec changed in a way that the archive must be asked about. Where only scripts,
// environments, machines, artifacts or smoke tests changed, Restamp brings the lock up to date with no network.
func NeedsResolve(old *Lock, l *Loaded) bool {
	if old == nil || len(old.lacks(l)) > 0 {
		return true
	}
	guests := map[string]bool{}
	for _, name := range l.names {
		guests["guests."+name] = true
	}
	for _, key := range changedKeys(old.Spec.Sections, l.Sections()) {
		list, _, isObject := strings.Cut(key, ".")
		field := key[strings.LastIndexByte(key, '.')+1:]
		switch {
		case !isObject:
			continue // an order, a name: what it is made of has sections of its own
		case list == "sources":
			return true
		case list == "stages" && field == "packages":
			return true
		case list == "guests" && guests[objectOf(key)] && slices.Contains(resolvedFields, field):
			return true
		}
	}
	return false
}

// Restamp is old made to match the spec as it stands. It is only right where NeedsResolve says no.
func Restamp(old *Lock, l *Loaded) *Lock {
	out := *old
	out.Version = LockVersion
	out.Spec = Stamp(l)
	out.Guests = map[string]*LockedGuest{}
	for _, name := range l.names {
		g := *old.Guests[name]
		spec := l.Guests[name]
		g.Machine, g.CPU, g.Clock = spec.Machine, spec.CPU, spec.Clock
		out.Guests[name] = &g
	}
	return &out
}

// Stamp is what a lock says about the spec that it is made for.
func Stamp(l *Loaded) LockSpec {
	return LockSpec{Name: l.Spec.Name, Digest: l.Digest(), Sections: l.Sections()}
}
