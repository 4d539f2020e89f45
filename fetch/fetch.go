// Package fetch brings pinned files into the store, from mirrors over HTTP(S) and from folders.
//
// It knows URLs, proxies, what servers and networks do wrong, and the machine's apt configuration. It refuses to know
// what it fetches: which files belong together, what an index says and who signed it are the caller's business.
// Every file but an index is known by its digest and size before it is asked for, so no server has to be trusted.
package fetch

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/belljar/belljar/store"
)

// Item is one pinned file. Exactly one of Pool, URL and Git says where it may be had.
type Item struct {
	Name   string       // what people call it
	Digest store.Digest // of the file; for Git, of the commit's tar
	Size   int64        // in bytes; -1 (and 0, for locks that do not know) accepts any

	Pool     string // path in a Debian archive, under its root: pool/main/…, dists/…
	Archive  string // which archive: debian, debian-security; "" is the main one
	Snapshot string // the snapshot archive's time stamp, as in 20250101T000000Z; "" is the Fetcher's
	pinned   bool   // an index: no other moment's will do

	URL string // absolute: http, https, file

	Git    string // a repository's URL
	Commit string // of Git: the full commit
}

// Progress is how far a Fetch is. Bytes of files whose size nobody knows are not in BytesTotal.
type Progress struct {
	Files, FilesTotal int
	Bytes, BytesTotal int64
	Current           string // the file that moved last
	From              string // the URL that it comes from
}

// Fetcher brings files into its store. The zero values of its settings are replaced by New's.
type Fetcher struct {
	Store   *store.Store
	Mirrors Mirrors

	Parallel int           // files at once
	Attempts int           // tries of one URL in a row that bring nothing new
	Stall    time.Duration // longest time without a byte
	Backoff  time.Duration // pause after the first failed try; doubles, up to 32 times
	Snapshot string        // the snapshot archive's time stamp for items and indexes without one; "" is now

	client *http.Client
	mu     sync.Mutex
	weak   map[string]bool // mirrors that exhausted their attempts: asked last, once
}

// New makes a Fetcher with the settings that suit an unattended run.
func New(s *store.Store, m Mirrors) *Fetcher {
	return &Fetcher{
		Store: s, Mirrors: m,
		Parallel: 4, Attempts: 4, Stall: 30 * time.Second, Backoff: 500 * time.Millisecond,
		client: newClient(m.Proxy), weak: map[string]bool{},
	}
}

// Fetch brings all items into the store, several at once; what is there already is not asked for. The first failure
// ends the others; what they have got so far stays for the next call. progress may be nil; its calls do not overlap.
func (f *Fetcher) Fetch(ctx context.Context, items []Item, progress func(Progress)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := newMeter(items, progress)
	work := make(chan Item)
	var wg sync.WaitGroup
	for range max(f.Parallel, 1) {
		wg.Go(func() {
			for it := range work {
				if err := f.fetchItem(ctx, it, m); err != nil {
					cancel(err)
					return
				}
				m.finish(it)
			}
		})
	}
	seen := map[store.Digest]bool{}
feed:
	for _, it := range items {
		if seen[it.Digest] {
			m.finish(it)
			continue
		}
		seen[it.Digest] = true
		select {
		case work <- it:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// State is the state of one of Debian's archives that an index is read from.
type State struct {
	Archive  string // debian, debian-security; "" is the main one
	Snapshot string // the moment, as the snapshot archive writes it; "" is the present
}

// GetVerified brings one file of the Debian archive, whose digest and size a signed index gave, into the store.
// Beside relpath the by-hash name is tried, see https://wiki.debian.org/DebianRepository/Format.
func (f *Fetcher) GetVerified(
	ctx context.Context, of State, relpath string, want store.Digest, size int64,
) error {
	return f.Fetch(ctx, []Item{{
		Name: relpath, Digest: want, Size: size, Pool: relpath,
		Archive: of.Archive, Snapshot: of.Snapshot, pinned: of.Snapshot != "",
	}}, nil)
}

func (f *Fetcher) fetchItem(ctx context.Context, it Item, m *meter) error {
	if _, err := store.ParseDigest(string(it.Digest)); err != nil {
		return itemFault(it, err)
	}
	if it.Size == 0 {
		it.Size = -1
	}
	if f.Store.Has(it.Digest) {
		return nil
	}
	if it.Git != "" {
		return f.fetchGitItem(ctx, it)
	}
	sources, err := f.sources(it)
	if err != nil {
		return itemFault(it, err)
	}
	p, err := f.Store.Partial(ctx, it.Digest, it.Size)
	if err != nil {
		return err
	}
	defer p.Close()
	if f.Store.Has(it.Digest) { // another process was faster
		return nil
	}
	var tried []attempt
	for _, src := range f.strongFirst(sources) {
		err := f.fromSource(ctx, src, it, p, m)
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[*sourceError](err); !ok { // ours, not the source's: disk full, Ctrl-C
			return err
		}
		tried = append(tried, attempt{src, err})
	}
	return allFailed(it, tried)
}
