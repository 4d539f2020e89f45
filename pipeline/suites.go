package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// suite is a suite that was read, and what a lock says about it.
type suite struct {
	*debian.Archive
	name    string // as it was asked for
	archive string // debian, debian-security
	release specs.Release
}

// suitesOf lists what a guest's packages come from: its own suite first, then the updates.
func suitesOf(g *specs.Guest) []suite {
	all := []suite{{name: g.Suite, archive: specs.ArchiveMain}}
	if g.Updates {
		all = append(all, suite{name: g.Suite + "-updates", archive: specs.ArchiveMain})
	}
	if g.Security {
		all = append(all, suite{name: g.Suite + "-security", archive: specs.ArchiveSecurity})
	}
	return all
}

// prefetch begins to read the indexes of all guests, side by side; what fails is told to whoever asks for it.
func (r *resolver) prefetch(ctx context.Context, l *specs.Loaded) {
	for _, name := range l.GuestNames() {
		for _, s := range suitesOf(l.Guests[name]) {
			r.reading.Go(func() { _, _ = r.suite(ctx, s, l.Guests[name]) })
		}
	}
}

func (r *resolver) suites(ctx context.Context, g *specs.Guest) ([]*suite, error) {
	var all []*suite
	for _, s := range suitesOf(g) {
		read, err := r.suite(ctx, s, g)
		if err != nil {
			return nil, err
		}
		all = append(all, read)
	}
	return all, nil
}

// suite reads a suite for a guest, once.
func (r *resolver) suite(ctx context.Context, s suite, g *specs.Guest) (*suite, error) {
	arch := debianArch[g.Arch]
	key := strings.Join([]string{s.archive, s.name, arch, g.Snapshot}, "/")
	r.mu.Lock()
	read := r.loaded[key]
	if read == nil {
		read = sync.OnceValues(func() (*suite, error) {
			return r.load(ctx, s, fetch.State{Archive: s.archive, Snapshot: g.Snapshot}, arch)
		})
		r.loaded[key] = read
	}
	r.mu.Unlock()
	return read()
}

func (r *resolver) load(ctx context.Context, s suite, of fetch.State, arch string) (*suite, error) {
	x := &indexes{f: r.fetcher, of: of, keys: r.keys}
	a, err := debian.Load(ctx, x, s.name, arch, r.keys)
	if err != nil {
		return nil, err
	}
	if err := a.Release.CheckFresh(s.name, time.Now()); err != nil { // else x had refused it
		r.h.note(PhaseLock, fmt.Sprintf("%s is of %s and was valid until %s: accepted, for it is a snapshot", s.name,
			a.Release.Date.UTC().Format(time.DateOnly), a.Release.ValidUntil.UTC().Format(time.DateOnly)))
	}
	s.Archive = a
	s.release = specs.Release{
		Suite: a.Release.Suite, Codename: a.Release.Codename, Date: a.Release.Date,
		InReleaseSHA256: string(x.signed),
		Snapshot:        cmp.Or(of.Snapshot, a.Release.Date.UTC().Format("20060102T150405Z")),
	}
	return &s, nil
}

// indexes lets image/debian read a suite's indexes through the fetcher. An index whose digest is known goes through the
// store, so that it is fetched once.
type indexes struct {
	f      *fetch.Fetcher
	of     fetch.State
	keys   *debian.Keys
	signed store.Digest // of InRelease, which came without a digest known before
}

// maxRelease bounds an InRelease file; bookworm's has 150 KiB.
const maxRelease = 4 << 20

// check verifies a suite's InRelease, so that a mirror with a wrong one, or one that is too old, is passed over.
func (x *indexes) check(suite string) func([]byte, bool) error {
	return func(data []byte, frozen bool) error {
		r, err := debian.VerifyRelease(suite, data, x.keys)
		if err != nil || frozen {
			return err
		}
		return r.CheckFresh(suite, time.Now())
	}
}

func (x *indexes) Get(ctx context.Context, name, want string, n int64) (io.ReadCloser, error) {
	if want == "" {
		data, _, err := x.f.GetChecked(ctx, x.of, name, maxRelease, x.check(path.Base(path.Dir(name))))
		if err != nil {
			return nil, err
		}
		x.signed = digestOf(data)
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	if err := x.f.GetVerified(ctx, x.of, name, store.Digest(want), n); err != nil {
		return nil, err
	}
	return x.f.Store.Open(store.Digest(want))
}
