package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// Fetch fills the store with all that the lock pins. It can be interrupted and run again.
func Fetch(ctx context.Context, cfg Config, o FetchOptions) (*FetchResult, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	p, err := makePlan(o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	var items []fetch.Item
	for _, p := range p.all() {
		guests := []*specs.LockedGuest{p.locked}
		if o.Guest == "" {
			guests = guests[:0]
			for _, name := range p.loaded.GuestNames() {
				guests = append(guests, p.lock.Guests[name])
			}
		}
		items = append(items, pinned(p.lock, guests...)...)
	}
	items = inNameOrder(items)
	res := &FetchResult{Files: len(items)}
	for _, it := range items {
		res.Bytes += it.Size
	}
	res.Fetched, _, err = h.fetchMissing(ctx, items)
	return res, err
}

// pinned lists what a build in these guests may see, each file once, in the order of their names.
func pinned(l *specs.Lock, guests ...*specs.LockedGuest) []fetch.Item {
	seen := map[string]fetch.Item{}
	snapshot := ""
	for _, g := range guests {
		snapshot = max(snapshot, g.Release.Snapshot)
		for _, p := range g.Packages {
			archive, moment := g.Origin(p)
			seen[p.SHA256] = fetch.Item{
				Name: debName(p), Digest: store.Digest(p.SHA256), Size: p.Size,
				Pool: p.Pool, Archive: archive, Snapshot: moment,
			}
		}
	}
	for _, s := range l.Sources {
		for _, f := range s.Files {
			it := fetch.Item{
				Name: f.Name, Digest: store.Digest(f.SHA256), Size: f.Size,
				Pool: f.Pool, URL: f.URL, Archive: s.Archive, Snapshot: cmp.Or(s.Snapshot, snapshot),
			}
			if s.Kind == specs.KindGit {
				it.URL, it.Git, it.Commit = "", f.URL, s.Commit
			}
			seen[f.SHA256] = it
		}
	}
	return inNameOrder(slices.Collect(maps.Values(seen)))
}

// inNameOrder sorts items by their names, and drops those that are there already.
func inNameOrder(items []fetch.Item) []fetch.Item {
	slices.SortFunc(items, func(a, b fetch.Item) int {
		return strings.Compare(a.Name+string(a.Digest), b.Name+string(b.Digest))
	})
	return slices.CompactFunc(items, func(a, b fetch.Item) bool { return a.Name == b.Name && a.Digest == b.Digest })
}

func debName(p specs.Package) string { return p.Name + "_" + p.Version + "_" + p.Arch + ".deb" }

// missing are the items that the store has not.
func (h *house) missing(items []fetch.Item) []fetch.Item {
	return slices.DeleteFunc(slices.Clone(items), func(it fetch.Item) bool { return h.store.Has(it.Digest) })
}

// fetchMissing brings what the store has not, as a phase; nothing is said where nothing is missing.
func (h *house) fetchMissing(ctx context.Context, items []fetch.Item) (int, []Part, error) {
	want := h.missing(items)
	if len(want) == 0 {
		return 0, nil, nil
	}
	var total int64
	for _, it := range want {
		total += it.Size
	}
	part, err := h.phase(PhaseFetch, "", fmt.Sprintf("%d files, %s", len(want), size(total)), func() (string, error) {
		f, err := h.fetcher()
		if err != nil {
			return "", err
		}
		err = f.Fetch(ctx, want, func(p fetch.Progress) {
			h.report(Event{
				Kind: Progress, Phase: PhaseFetch, Text: p.Current, Done: p.Bytes, Total: p.BytesTotal, Unit: "bytes",
			})
		})
		return fmt.Sprintf("%d files, %s", len(want), size(total)), err
	})
	return len(want), []Part{part}, err
}

// needStored is fetchMissing for a build that must not use the network.
func (h *house) needStored(items []fetch.Item, spec string) error {
	want := h.missing(items)
	if len(want) == 0 {
		return nil
	}
	return fault.New(fault.Input, "offline",
		"the store lacks %d of %d files, the first is %s", len(want), len(items), want[0].Name).
		WithRemedy("where there is a network run: belljar fetch %s", spec)
}

// verifyAll hashes what the build will read once more, on all cores: readers of archives stop at their end mark, and
// nothing damaged may have been used before it is found out.
func (h *house) verifyAll(ctx context.Context, items []fetch.Item) error {
	work := make(chan fetch.Item)
	errs := make([]error, runtime.NumCPU())
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for it := range work {
				if err := h.store.Verify(ctx, it.Digest); err != nil && errs[i] == nil {
					errs[i] = fmt.Errorf("%s: %w", it.Name, err)
				}
			}
		})
	}
	for _, it := range items {
		work <- it
	}
	close(work)
	all.Wait()
	return errors.Join(errs...)
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
