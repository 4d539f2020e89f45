package specs

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	snapshotSyntax = regexp.MustCompile(SnapshotPattern)
	poolSyntax     = regexp.MustCompile(`^pool/[A-Za-z0-9][A-Za-z0-9._+~%:-]*(/[A-Za-z0-9][A-Za-z0-9._+~%:-]*)+$`)
	fileNameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~%:-]*$`)
	sourceKinds    = []string{KindDebian, KindURL, KindGit}
)

// snapshotLayout is how snapshot.debian.org names a moment.
const snapshotLayout = "20060102T150405Z"

func (c checker) lock(l *Lock) {
	if oldest := l.oldest(); oldest > l.Version {
		what := map[int]string{2: "suites or snapshots", 3: "needs"}[oldest]
		c.fail(at("version"), "it is %d, but there are %s, which version %d brought", l.Version, what, oldest)
	}
	c.specName(at("spec", "name"), l.Spec.Name)
	c.sha256(at("spec", "digest"), l.Spec.Digest)
	for _, k := range sortedKeys(l.Spec.Sections) {
		c.sha256(at("spec", "sections", k), l.Spec.Sections[k])
	}
	sorted(c, at("needs"), l.Needs, func(n NeededLock) string { return n.Name })
	for i, n := range l.Needs {
		c.specName(at("needs", i, "name"), n.Name)
		c.sha256(at("needs", i, "lock"), n.Lock)
		for _, k := range sortedKeys(n.Sections) {
			c.sha256(at("needs", i, "sections", k), n.Sections[k])
		}
	}
	sorted(c, at("sources"), l.Sources, func(s LockedSource) string { return s.Name })
	for i, s := range l.Sources {
		c.lockedSource(at("sources", i), s)
	}
	if len(l.Guests) == 0 {
		c.fail(at("guests"), "no guest is locked")
	}
	for _, name := range sortedKeys(l.Guests) {
		c.name(at("guests", name), name)
		c.lockedGuest(at("guests", name), l.Guests[name])
	}
}

// sorted reports the first element that does not come after the one before it.
func sorted[E any](c checker, path []any, list []E, key func(E) string) {
	for i := 1; i < len(list); i++ {
		switch before, this := key(list[i-1]), key(list[i]); cmp.Compare(before, this) {
		case 0:
			c.fail(below(path, i), "%s is there twice", this)
			return
		case 1:
			c.fail(below(path, i), "not sorted: %s stands after %s", this, before)
			return
		}
	}
}

// below is a path's continuation, in memory of its own.
func below(path []any, steps ...any) []any { return append(slices.Clip(path), steps...) }

func (c checker) sha256(path []any, s string) {
	c.match(path, s, sha256Syntax, "a SHA-256: 64 lower-case hex digits")
}

func (c checker) lockedSource(where []any, s LockedSource) {
	c.name(below(where, "name"), s.Name)
	if !slices.Contains(sourceKinds, s.Kind) {
		c.fail(below(where, "kind"), "there is no kind %q%s", s.Kind, suggest(s.Kind, sourceKinds))
	}
	switch s.Kind {
	case KindDebian:
		c.match(below(where, "package"), s.Package, packageSyntax, "a Debian package name")
		c.match(below(where, "version"), s.Version, versionSyntax, "a Debian version")
		if n := countFunc(s.Files, func(f File) bool { return strings.HasSuffix(f.Name, ".dsc") }); n != 1 {
			c.fail(below(where, "files"), "a Debian source has one .dsc file, found %d", n)
		}
		c.lockedOrigin(where, s)
	case KindURL:
		if len(s.Files) != 1 {
			c.fail(below(where, "files"), "a url source is one file, found %d", len(s.Files))
		}
	case KindGit:
		c.match(below(where, "commit"), s.Commit, commitSyntax, "a full commit: 40 or 64 lower-case hex digits")
	}
	sorted(c, below(where, "files"), s.Files, func(f File) string { return f.Name })
	for i, f := range s.Files {
		c.file(below(where, "files", i), s.Kind, f)
	}
}

// archives are the values of an archive in a lock.
var archives = []string{ArchiveMain, ArchiveSecurity}

// lockedOrigin checks where a Debian source comes from: all of suite, archive and snapshot are there, or none.
func (c checker) lockedOrigin(where []any, s LockedSource) {
	if s.Suite == "" && s.Archive == "" && s.Snapshot == "" {
		return
	}
	c.match(below(where, "suite"), s.Suite, suiteSyntax, "a suite, like bookworm")
	c.archive(below(where, "archive"), s.Archive)
	c.snapshot(below(where, "snapshot"), s.Snapshot)
}

func (c checker) archive(where []any, archive string) {
	if !slices.Contains(archives, archive) {
		c.fail(where, "there is no archive %q%s", archive, suggest(archive, archives))
	}
}

func countFunc[E any](list []E, f func(E) bool) (n int) {
	for _, e := range list {
		if f(e) {
			n++
		}
	}
	return n
}

func (c checker) file(where []any, kind string, f File) {
	c.match(below(where, "name"), f.Name, fileNameSyntax, "a file's name")
	c.sha256(below(where, "sha256"), f.SHA256)
	c.bytes(below(where, "size"), f.Size)
	switch {
	case kind == KindDebian && f.Pool == "":
		c.fail(where, "missing: pool")
	case kind == KindDebian:
		c.pool(below(where, "pool"), f.Pool)
	case f.URL == "":
		c.fail(where, "missing: url")
	default:
		c.url(below(where, "url"), f.URL)
	}
}

func (c checker) bytes(where []any, size int64) {
	if size <= 0 {
		c.fail(where, "%d is not a file's size", size)
	}
}

// pool checks a path below an archive's root; it must not climb, for it becomes part of a URL.
func (c checker) pool(where []any, p string) {
	if !poolSyntax.MatchString(p) || path.Clean(p) != p {
		c.fail(where, "%q is not a pool path, like pool/main/s/seabios/seabios_1.16.2-1.dsc", p)
	}
}

func (c checker) lockedGuest(where []any, g *LockedGuest) {
	if !slices.Contains(arches, g.Arch) {
		c.fail(below(where, "arch"), "there is no architecture %q%s", g.Arch, suggest(g.Arch, arches))
	}
	c.match(below(where, "suite"), g.Suite, suiteSyntax, "a suite, like bookworm")
	c.machine(below(where, "machine"), g.Machine)
	c.cpu(below(where, "cpu"), g.CPU)
	c.release(below(where, "release"), g.Release)
	sorted(c, below(where, "suites"), g.Suites, func(s LockedSuite) string { return s.Suite })
	suites := map[string]bool{"": true}
	for i, s := range g.Suites {
		where := below(where, "suites", i)
		c.match(below(where, "suite"), s.Suite, suiteSyntax, "a suite, like bookworm-security")
		if s.Suite == g.Suite {
			c.fail(below(where, "suite"), "%s is the guest's own suite", s.Suite)
		}
		c.archive(below(where, "archive"), s.Archive)
		c.release(below(where, "release"), s.Release)
		suites[s.Suite] = true
	}
	sorted(c, below(where, "packages"), g.Packages, func(p Package) string { return p.Name + " " + p.Arch })
	for i, p := range g.Packages {
		c.lockedPackage(below(where, "packages", i), g.Arch, p)
		if !suites[p.Suite] {
			c.fail(below(where, "packages", i, "suite"), "%q is not one of the guest's suites", p.Suite)
		}
	}
	c.kernel(where, g)
}

func (c checker) release(where []any, r Release) {
	c.sha256(below(where, "inrelease_sha256"), r.InReleaseSHA256)
	c.snapshot(below(where, "snapshot"), r.Snapshot)
}

// debianArch is what Debian calls an architecture.
var debianArch = map[string]string{ArchX86_64: "amd64", ArchI686: "i386"}

func (c checker) lockedPackage(where []any, arch string, p Package) {
	c.match(below(where, "name"), p.Name, packageSyntax, "a Debian package name")
	c.match(below(where, "version"), p.Version, versionSyntax, "a Debian version")
	if p.Arch != "all" && p.Arch != debianArch[arch] {
		c.fail(below(where, "arch"), "a package for %q cannot go into a guest of %s", p.Arch, arch)
	}
	c.sha256(below(where, "sha256"), p.SHA256)
	c.bytes(below(where, "size"), p.Size)
	c.pool(below(where, "pool"), p.Pool)
}

// kernel checks that exactly one package is the kernel, and that it is the one named.
func (c checker) kernel(where []any, g *LockedGuest) {
	if g.Kernel.Release == "" {
		c.fail(below(where, "kernel", "release"), "the kernel's release is empty")
	}
	var kernels []string
	for i, p := range g.Packages {
		if !p.Kernel {
			continue
		}
		kernels = append(kernels, p.Name)
		if p.Name != g.Kernel.Package || p.Version != g.Kernel.Version {
			c.fail(below(where, "packages", i), "%s %s is marked as the kernel, which is %s %s",
				p.Name, p.Version, g.Kernel.Package, g.Kernel.Version)
		}
	}
	if len(kernels) != 1 {
		c.fail(below(where, "packages"), "one package must be the kernel, found %d", len(kernels))
	}
}
