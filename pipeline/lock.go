package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
)

// Lock resolves a spec for all its guests and writes what it came to. It is the only step that resolves anything.
// Where only scripts, environments or tests have changed since the last lock, it needs no network, unless it is asked to
// update.
func Lock(ctx context.Context, cfg Config, o LockOptions) (*LockResult, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	return h.makeLock(ctx, o)
}

func (h *house) makeLock(ctx context.Context, o LockOptions) (*LockResult, error) {
	loaded, err := specs.Load(o.Spec)
	if err != nil {
		return nil, err
	}
	needed, err := specs.LoadNeededLocks(loaded)
	if err != nil {
		return nil, err
	}
	// A shipped spec has no place on the disk: its lock goes to the current folder.
	file := cmp.Or(o.Path, loaded.LockPath(), path.Base(loaded.Spec.Name)+".lock.json")
	old, err := readOld(file)
	if err != nil {
		return nil, err
	}
	var lock *specs.Lock
	if old != nil && !o.Update && !specs.NeedsResolve(old, loaded) {
		h.note(PhaseLock, "packages and sources are as they were locked: nothing to resolve (--update asks the archive)")
		lock = specs.Restamp(old, loaded)
	} else if lock, err = h.resolve(ctx, loaded); err != nil {
		return nil, err
	}
	if err := lock.Pin(loaded, needed); err != nil {
		return nil, err
	}
	res := &LockResult{Path: file, DryRun: o.DryRun, Changes: []string{}, Details: []specs.Change{}}
	for _, it := range pinned(lock, slices.Collect(maps.Values(lock.Guests))...) {
		res.Packages++
		res.Bytes += it.Size
	}
	before := old
	if before == nil && loaded.Path == "" { // what a build of a shipped spec would take without this lock
		before, _ = specs.LoadLock(loaded, "")
	}
	if before != nil {
		res.Details = append(res.Details, specs.Diff(before, lock)...)
		for _, c := range res.Details {
			res.Changes = append(res.Changes, c.String())
		}
	}
	if o.DryRun || old != nil && bytes.Equal(old.Marshal(), lock.Marshal()) {
		return res, nil
	}
	res.Written = true
	return res, lock.WriteFile(file)
}

// readOld reads the lock that stands at file; nil if there is none. One that cannot be read is replaced, not obeyed.
func readOld(file string) (*specs.Lock, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Input, "read lock", "%w", err)
	}
	lock, err := specs.ParseLock(file, data)
	if err != nil {
		return nil, nil //nolint:nilerr // a damaged lock is what a new one mends
	}
	return lock, nil
}
