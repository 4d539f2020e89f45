package specs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Digest is the SHA-256 of the lock as Marshal writes it.
func (l *Lock) Digest() string {
	sum := sha256.Sum256(l.Marshal())
	return hex.EncodeToString(sum[:])
}

// sections has a digest for each part of the lock, under the path by which a person knows it.
func (l *Lock) sections() map[string]string {
	l = l.sorted()
	all := map[string]string{"spec": digest(l.Spec)}
	for _, n := range l.Needs {
		all["needs."+n.Name] = digest(n.Lock)
	}
	for _, s := range l.Sources {
		all["sources."+s.Name] = digest(s)
	}
	for name, g := range l.Guests {
		all["guests."+name] = digest(g)
	}
	return all
}

// Locks are the locks of a spec and of all the specs that it needs, by the specs' names.
type Locks map[string]*Lock

// LoadLocks reads the lock of a spec, from path if it is given, and those of all specs that it needs, and holds them
// against the specs and against each other.
func LoadLocks(l *Loaded, path string) (Locks, error) {
	locks, err := LoadNeededLocks(l)
	if err != nil {
		return nil, err
	}
	return locks, locks.add(l, path)
}

// LoadNeededLocks reads the locks of all specs that one needs. Its own lock may be missing, or another's.
func LoadNeededLocks(l *Loaded) (Locks, error) {
	locks := Locks{}
	return locks, locks.addNeeded(l)
}

func (ls Locks) addNeeded(l *Loaded) error {
	for _, name := range sortedKeys(l.Needed) {
		needed := l.Needed[name]
		if ls[name] != nil {
			continue
		}
		if err := ls.addNeeded(needed); err != nil {
			return err
		}
		if err := ls.add(needed, ""); err != nil {
			return fault.New(fault.KindOf(err), "", "%w (%s needs %s)", err, l.Spec.Name, name)
		}
	}
	return nil
}

// add reads a spec's lock when those that it needs are there.
func (ls Locks) add(l *Loaded, path string) error {
	lock, err := LoadLock(l, path)
	if err != nil {
		return err
	}
	if err := lock.Matches(l); err != nil {
		return err
	}
	for _, pinned := range lock.Needs {
		if now := ls[pinned.Name]; now != nil && now.Digest() != pinned.Lock {
			return pinned.changed(now, l)
		}
	}
	ls[l.Spec.Name] = lock
	return nil
}

// changed says that a needed spec's lock is not the one that was pinned, and in what they differ.
func (n NeededLock) changed(now *Lock, by *Loaded) error {
	what := "its layout or version"
	if keys := changedKeys(n.Sections, now.sections()); len(keys) > 0 {
		what = strings.Join(keys, ", ")
	}
	return fault.New(fault.Input, "check lock", "the lock of %s has changed since %s was locked (%s, now %s): %s",
		n.Name, by.Spec.Name, n.Lock[:12], now.Digest()[:12], what).
		WithRemedy("pin it as it is now: belljar lock %s; or take back the change of %s", by.ref(), n.Name)
}

// Pin makes l pin the locks of the specs that its own spec needs.
func (l *Lock) Pin(loaded *Loaded, locks Locks) error {
	l.Needs = nil
	for _, name := range sortedKeys(loaded.Needed) {
		needed := locks[name]
		if needed == nil {
			return fmt.Errorf("pin locks: there is none of %s", name)
		}
		l.Needs = append(l.Needs, NeededLock{Name: name, Lock: needed.Digest(), Sections: needed.sections()})
	}
	slices.SortFunc(l.Needs, func(a, b NeededLock) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
