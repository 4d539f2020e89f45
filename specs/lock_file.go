package specs

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// sorted is a copy of l with its lists in order, so that Marshal does not depend on how they were made.
func (l *Lock) sorted() *Lock {
	out := *l
	out.Version = l.oldest()
	out.Needs = slices.Clone(l.Needs)
	slices.SortStableFunc(out.Needs, func(a, b NeededLock) int { return cmp.Compare(a.Name, b.Name) })
	out.Sources = slices.Clone(l.Sources)
	slices.SortStableFunc(out.Sources, func(a, b LockedSource) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out.Sources {
		files := append([]File{}, out.Sources[i].Files...) // never null
		slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
		out.Sources[i].Files = files
	}
	out.Guests = map[string]*LockedGuest{}
	for name, g := range l.Guests {
		g := *g
		g.Suites = slices.Clone(g.Suites)
		slices.SortStableFunc(g.Suites, func(a, b LockedSuite) int { return cmp.Compare(a.Suite, b.Suite) })
		g.Packages = append([]Package{}, g.Packages...)
		slices.SortStableFunc(g.Packages, func(a, b Package) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch))
		})
		out.Guests[name] = &g
	}
	if out.Sources == nil {
		out.Sources = []LockedSource{}
	}
	return &out
}

// WriteFile writes l to a file in one step: readers see the old lock or the new one, and a crash leaves no half.
func (l *Lock) WriteFile(name string) error {
	if err := atomicfile.Write(name, l.Marshal(), 0o644); err != nil {
		return fault.New(fault.Host, "write lock", "%w", err).
			WithRemedy("make sure that %s can be written and its disk has room", filepath.Dir(name))
	}
	return nil
}

// LockPath is where the lock of a spec's file stands: beside it, foo.lock.json for foo.yaml; "" for a shipped spec.
func (l *Loaded) LockPath() string {
	if l.Path == "" {
		return ""
	}
	return strings.TrimSuffix(l.Path, filepath.Ext(l.Path)) + ".lock.json"
}

// ref is how a user names the spec in a command.
func (l *Loaded) ref() string {
	switch {
	case l.Path == "":
		return l.Spec.Name
	case isPath(l.Path):
		return l.Path
	}
	return "./" + l.Path
}

// LoadLock reads a lock: from path if it is given, else from beside the spec's file, else the one shipped with the
// spec. It does not say whether the lock is this spec's: Matches does.
func LoadLock(l *Loaded, path string) (*Lock, error) {
	if path == "" {
		path = l.LockPath()
	}
	if path == "" {
		name := l.Spec.Name + ".lock.json"
		data, err := shipped.ReadFile("shipped/" + name)
		if err != nil {
			return nil, missingLock(l, fmt.Errorf("no lock is shipped for %s", l.Spec.Name))
		}
		return ParseLock(name, data)
	}
	if _, err := os.Stat(path); err != nil {
		if os.IsNotExist(err) {
			err = fmt.Errorf("there is no lock %s: %w", path, fs.ErrNotExist)
		}
		return nil, missingLock(l, err)
	}
	data, err := readFile("read lock", path)
	if err != nil {
		return nil, err
	}
	return ParseLock(path, data)
}

func missingLock(l *Loaded, err error) error {
	return fault.New(fault.Input, "read lock", "%w", err).WithRemedy("make it: belljar lock %s", l.ref())
}
