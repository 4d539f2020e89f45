package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// resolver reads each index once, for all guests and sources.
type resolver struct {
	h       *house
	fetcher *fetch.Fetcher
	keys    *debian.Keys

	reading sync.WaitGroup
	mu      sync.Mutex
	loaded  map[string]func() (*suite, error) // by archive, suite, architecture and moment
}

func (h *house) resolve(ctx context.Context, l *specs.Loaded) (*specs.Lock, error) {
	f, err := h.fetcher()
	if err != nil {
		return nil, err
	}
	keys, err := h.keyring()
	if err != nil {
		return nil, err
	}
	r := &resolver{h: h, fetcher: f, keys: keys, loaded: map[string]func() (*suite, error){}}
	ctx, cancel := context.WithCancel(ctx)
	defer r.reading.Wait()
	defer cancel()
	r.prefetch(ctx, l)
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

func (r *resolver) guest(ctx context.Context, l *specs.Loaded, name string) (*specs.LockedGuest, error) {
	g, err := l.Guest(name)
	if err != nil {
		return nil, err
	}
	suites, err := r.suites(ctx, g)
	if err != nil {
		return nil, err
	}
	var all []*debian.Index
	for _, s := range suites {
		all = append(all, s.Index)
	}
	idx := debian.Merge(all...)
	kernel, err := kernelOf(idx, g)
	if err != nil {
		return nil, err
	}
	names, origins := roots(l, g)
	closure, err := debian.Resolve(idx, debianArch[g.Arch], names, debian.Options{Origins: origins})
	if err != nil {
		return nil, fault.New(fault.KindOf(err), "lock "+l.Spec.Name+" for "+name, "%w", err)
	}
	lg := &specs.LockedGuest{
		Arch: g.Arch, Suite: g.Suite, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock.UTC(),
		Kernel: specs.Kernel{
			Package: kernel.Name, Version: kernel.Version, Release: strings.TrimPrefix(kernel.Name, "linux-image-"),
		},
		Release: suites[0].release,
	}
	for _, s := range suites[1:] {
		lg.Suites = append(lg.Suites, specs.LockedSuite{Suite: s.name, Archive: s.archive, Release: s.release})
	}
	slices.SortFunc(lg.Suites, func(a, b specs.LockedSuite) int { return cmp.Compare(a.Suite, b.Suite) })
	for _, p := range closure.Packages {
		lg.Packages = append(lg.Packages, lockPackage(p.Package, g.Suite, p.Why))
	}
	k := lockPackage(kernel, g.Suite, "kernel of "+name)
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

// lockPackage pins a package of a guest whose own suite is suite.
func lockPackage(p *debian.Package, suite, why string) specs.Package {
	lp := specs.Package{
		Name: p.Name, Version: p.Version, Arch: p.Arch, SHA256: p.SHA256, Size: p.Size, Pool: p.Filename,
		Essential: p.Essential, Role: why,
	}
	if p.Suite != suite {
		lp.Suite = p.Suite
	}
	return lp
}

// kernelOf follows a kernel metapackage (linux-image-amd64) to the package that holds the kernel. The kernel is not
// installed in the guest, so that nothing else of what it depends on is wanted.
func kernelOf(idx *debian.Index, g *specs.Guest) (*debian.Package, error) {
	p := first(idx, g.Kernel)
	if p == nil && !hasKernel(idx) {
		return nil, fault.New(fault.Input, "guest "+g.Name, "kernel: %s has no kernel for %s at all", g.Suite,
			debianArch[g.Arch]).
			WithRemedy("Debian's last release with a kernel for 32-bit PCs is bookworm: name it as the suite, or take " +
				"arch: x86_64")
	}
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

// hasKernel reports whether there is any kernel for PCs in an index.
func hasKernel(idx *debian.Index) bool {
	for name := range idx.Packages {
		if strings.HasPrefix(name, "linux-image-") {
			return true
		}
	}
	return false
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

// debianSource looks the package up in the suites of the first guest: sources are the same for all architectures.
func (r *resolver) debianSource(ctx context.Context, l *specs.Loaded, s specs.Source) (*specs.LockedSource, error) {
	g, err := l.Guest("")
	if err != nil {
		return nil, err
	}
	suites, err := r.suites(ctx, g)
	if err != nil {
		return nil, err
	}
	var archives []*debian.Archive
	for _, x := range suites {
		archives = append(archives, x.Archive)
	}
	src, from, err := debian.FindSource(ctx, archives, s.Debian, s.Version)
	if err != nil {
		return nil, err
	}
	if newest, in, err := debian.FindSource(ctx, archives, s.Debian, ""); err == nil && newest.Version != src.Version {
		r.h.note(PhaseLock, fmt.Sprintf("source %s: the spec pins %s; %s has %s", s.Name, src.Version,
			suites[slices.Index(archives, in)].name, newest.Version))
	}
	ls := &specs.LockedSource{Name: s.Name, Kind: specs.KindDebian, Package: src.Name, Version: src.Version}
	if i := slices.Index(archives, from); i > 0 || g.Snapshot != "" {
		ls.Suite, ls.Archive, ls.Snapshot = suites[i].name, suites[i].archive, suites[i].release.Snapshot
	}
	for _, f := range src.Files {
		ls.Files = append(ls.Files, specs.File{Name: f.Name, SHA256: f.SHA256, Size: f.Size, Pool: src.Path(f.Name)})
	}
	slices.SortFunc(ls.Files, func(a, b specs.File) int { return cmp.Compare(a.Name, b.Name) })
	return ls, nil
}
