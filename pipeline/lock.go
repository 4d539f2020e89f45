package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// Lock resolves a spec for all its guests and writes what it came to. It is the only step that resolves anything.
// Where only scripts, environments or tests have changed since the last lock, it needs no network.
func Lock(ctx context.Context, cfg Config, o LockOptions) (*LockResult, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	loaded, err := specs.Load(o.Spec)
	if err != nil {
		return nil, err
	}
	// A shipped spec has no place on the disk: its lock goes to the current folder.
	file := cmp.Or(o.Path, loaded.LockPath(), loaded.Spec.Name+".lock.json")
	old, err := readOld(file)
	if err != nil {
		return nil, err
	}
	var lock *specs.Lock
	if old != nil && !specs.NeedsResolve(old, loaded) {
		h.note(PhaseLock, "packages and sources are as they were locked: nothing to resolve")
		lock = specs.Restamp(old, loaded)
	} else if lock, err = h.resolve(ctx, loaded); err != nil {
		return nil, err
	}
	res := &LockResult{Path: file}
	for _, it := range pinned(lock, slices.Collect(maps.Values(lock.Guests))...) {
		res.Packages++
		res.Bytes += it.Size
	}
	if old != nil {
		res.Changes = specs.Diff(old, lock)
		if bytes.Equal(old.Marshal(), lock.Marshal()) {
			return res, nil
		}
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

// resolver reads each index once, for all guests and sources.
type resolver struct {
	h        *house
	indexes  *indexes
	fetcher  *fetch.Fetcher
	keys     *debian.Keys
	archives map[string]*debian.Archive // by suite and architecture
}

func (h *house) resolve(ctx context.Context, l *specs.Loaded) (*specs.Lock, error) {
	f, err := h.fetcher()
	if err != nil {
		return nil, err
	}
	keys, err := debian.Keyring()
	if err != nil {
		return nil, err
	}
	r := &resolver{
		h: h, fetcher: f, keys: keys, archives: map[string]*debian.Archive{},
		indexes: &indexes{f: f, keys: keys, signed: map[string]store.Digest{}},
	}
	lock := &specs.Lock{
		Version: specs.LockVersion,
		Spec:    specs.Stamp(l),
		Guests:  map[string]*specs.LockedGuest{},
	}
	for _, name := range l.GuestNames() {
		_, err := h.phase(PhaseLock, name, "packages of "+name, func() (string, error) {
			g, err := r.guest(ctx, l, name)
			if err != nil {
				return "", err
			}
			lock.Guests[name] = g
			return fmt.Sprintf("%d packages, kernel %s", len(g.Packages), g.Kernel.Release), nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, s := range l.Spec.Sources {
		_, err := h.phase(PhaseLock, s.Name, "source "+s.Name, func() (string, error) {
			ls, err := r.source(ctx, l, s)
			if err != nil {
				return "", err
			}
			lock.Sources = append(lock.Sources, *ls)
			return fmt.Sprintf("%d files", len(ls.Files)), nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(lock.Sources, func(a, b specs.LockedSource) int { return cmp.Compare(a.Name, b.Name) })
	return lock, nil
}

// debianArch is what Debian calls the architecture.
var debianArch = map[string]string{"x86_64": "amd64", "i686": "i386"}

func (r *resolver) archive(ctx context.Context, suite, arch string) (*debian.Archive, error) {
	key := suite + "/" + arch
	if a := r.archives[key]; a != nil {
		return a, nil
	}
	a, err := debian.Load(ctx, r.indexes, suite, debianArch[arch], r.keys)
	if err == nil {
		r.archives[key] = a
	}
	return a, err
}

func (r *resolver) guest(ctx context.Context, l *specs.Loaded, name string) (*specs.LockedGuest, error) {
	g, err := l.Guest(name)
	if err != nil {
		return nil, err
	}
	a, err := r.archive(ctx, g.Suite, g.Arch)
	if err != nil {
		return nil, err
	}
	names, origins := roots(l, g)
	closure, err := debian.Resolve(a.Index, debianArch[g.Arch], names, debian.Options{Origins: origins})
	if err != nil {
		return nil, fault.New(fault.KindOf(err), "lock "+l.Spec.Name+" for "+name, "%w", err)
	}
	kernel, err := kernelOf(a.Index, g)
	if err != nil {
		return nil, err
	}
	lg := &specs.LockedGuest{
		Arch: g.Arch, Suite: g.Suite, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock.UTC(),
		Kernel: specs.Kernel{
			Package: kernel.Name, Version: kernel.Version, Release: strings.TrimPrefix(kernel.Name, "linux-image-"),
		},
		Release: specs.Release{
			Suite: a.Release.Suite, Codename: a.Release.Codename, Date: a.Release.Date,
			InReleaseSHA256: string(r.indexes.signed["dists/"+g.Suite+"/InRelease"]),
			Snapshot:        a.Release.Date.UTC().Format("20060102T150405Z"),
		},
	}
	for _, p := range closure.Packages {
		lg.Packages = append(lg.Packages, lockPackage(p.Package, p.Why))
	}
	k := lockPackage(kernel, "kernel of "+name)
	k.Kernel = true
	lg.Packages = append(lg.Packages, k)
	slices.SortFunc(lg.Packages, func(a, b specs.Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch))
	})
	return lg, nil
}

// roots are the packages that somebody asked for: the guest and all stages, for they share one image.
func roots(l *specs.Loaded, g *specs.Guest) (names []string, origins map[string]string) {
	origins = map[string]string{}
	for _, s := range l.Spec.Stages {
		for _, p := range s.Packages {
			origins[p] = "stage " + s.Name
		}
	}
	for _, p := range g.Packages {
		origins[p] = "guest " + g.Name
	}
	return slices.Sorted(maps.Keys(origins)), origins
}

func lockPackage(p *debian.Package, why string) specs.Package {
	return specs.Package{
		Name: p.Name, Version: p.Version, Arch: p.Arch, SHA256: p.SHA256, Size: p.Size, Pool: p.Filename,
		Essential: p.Essential, Role: why,
	}
}

// kernelOf follows a kernel metapackage (linux-image-amd64) to the package that holds the kernel. The kernel is not
// installed in the guest, so that nothing else of what it depends on is wanted.
func kernelOf(idx *debian.Index, g *specs.Guest) (*debian.Package, error) {
	p := first(idx, g.Kernel)
	if p == nil {
		return nil, fault.New(fault.Input, "guest "+g.Name, "kernel: %s has no package %s", idx.Name, g.Kernel).
			WithRemedy("name the metapackage of a kernel, such as linux-image-amd64 or linux-image-686-pae")
	}
	deps, err := debian.ParseRelations(p.Depends)
	if err != nil {
		return nil, err
	}
	for _, alternatives := range deps {
		for _, d := range alternatives {
			if k := first(idx, d.Name); strings.HasPrefix(d.Name, "linux-image-") && k != nil && d.Accepts(k.Version) {
				return k, nil
			}
		}
	}
	return p, nil
}

func first(idx *debian.Index, name string) *debian.Package {
	if all := idx.Packages[name]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// source pins the files of one source.
func (r *resolver) source(ctx context.Context, l *specs.Loaded, s specs.Source) (*specs.LockedSource, error) {
	switch {
	case s.Debian != "":
		return r.debianSource(ctx, l, s)
	case s.Git != "":
		d, n, err := r.fetcher.FetchGit(ctx, s.Git, s.Commit)
		if err != nil {
			return nil, err
		}
		file := specs.File{Name: s.Name + "-" + s.Commit + ".tar", SHA256: string(d), Size: n, URL: s.Git}
		return &specs.LockedSource{Name: s.Name, Kind: specs.KindGit, Commit: s.Commit, Files: []specs.File{file}}, nil
	}
	item := fetch.Item{Name: path.Base(s.URL), Digest: store.Digest(s.SHA256), Size: -1, URL: s.URL}
	if err := r.fetcher.Fetch(ctx, []fetch.Item{item}, nil); err != nil {
		return nil, err
	}
	n, err := r.h.store.Size(item.Digest)
	if err != nil {
		return nil, err
	}
	file := specs.File{Name: item.Name, SHA256: s.SHA256, Size: n, URL: s.URL}
	return &specs.LockedSource{Name: s.Name, Kind: specs.KindURL, Files: []specs.File{file}}, nil
}

// debianSource looks the package up in the suite of the first guest: sources are the same for all architectures.
func (r *resolver) debianSource(ctx context.Context, l *specs.Loaded, s specs.Source) (*specs.LockedSource, error) {
	g, err := l.Guest("")
	if err != nil {
		return nil, err
	}
	a, err := r.archive(ctx, g.Suite, g.Arch)
	if err != nil {
		return nil, err
	}
	src, err := a.FindSource(ctx, s.Debian, s.Version)
	if err != nil {
		return nil, err
	}
	ls := &specs.LockedSource{Name: s.Name, Kind: specs.KindDebian, Package: src.Name, Version: src.Version}
	for _, f := range src.Files {
		ls.Files = append(ls.Files, specs.File{Name: f.Name, SHA256: f.SHA256, Size: f.Size, Pool: src.Path(f.Name)})
	}
	slices.SortFunc(ls.Files, func(a, b specs.File) int { return cmp.Compare(a.Name, b.Name) })
	return ls, nil
}

// indexes lets image/debian read an archive's indexes through the fetcher. An index whose digest is known goes
// through the store, so that it is fetched once.
type indexes struct {
	f      *fetch.Fetcher
	keys   *debian.Keys
	signed map[string]store.Digest // what came without a digest known before, by path
}

// maxRelease bounds an InRelease file; bookworm's has 150 KiB.
const maxRelease = 4 << 20

// check verifies a suite's InRelease, so that a mirror with a wrong one is passed over.
func (x *indexes) check(suite string) func([]byte) error {
	return func(data []byte) error {
		_, err := debian.VerifyRelease(suite, data, x.keys)
		return err
	}
}

func (x *indexes) Get(ctx context.Context, name, want string, n int64) (io.ReadCloser, error) {
	if want == "" {
		data, _, err := x.f.GetChecked(ctx, name, maxRelease, x.check(path.Base(path.Dir(name))))
		if err != nil {
			return nil, err
		}
		x.signed[name] = digestOf(data)
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	if err := x.f.GetVerified(ctx, name, store.Digest(want), n); err != nil {
		return nil, err
	}
	return x.f.Store.Open(store.Digest(want))
}
