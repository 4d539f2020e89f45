package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Getter gets a file of the archive by its path below the archive's root, e.g. dists/bookworm/InRelease.
// want is the file's SHA-256 in hex and size its length, where they are known: InRelease comes with "" and 0.
// The package checks both itself; they are there so that a Getter may answer from a cache.
type Getter interface {
	Get(ctx context.Context, path, want string, size int64) (io.ReadCloser, error)
}

// Bounds on an index, compressed and as text. Debian's largest has 12 MB, and 60 MB of text.
const (
	maxIndex     = 512 << 20
	maxIndexText = 4 << 30
)

// Package is one binary package of an index: the fields that resolving and fetching need. Relations are kept as text
// and parsed where they are used, for an index has sixty thousand packages and a closure a few hundred.
type Package struct {
	Name, Version, Arch string
	Source              string // the source package's name, and its version in parentheses where it differs
	Essential           bool
	Priority            string
	MultiArch           string // same, foreign, allowed or ""
	PreDepends, Depends string
	Conflicts, Breaks   string
	Provides            string
	Filename            string // the path below the archive's root
	Size                int64
	SHA256              string
	InstalledSize       int64  // in KiB; an estimate
	Suite               string // whose index it stands in
	Index               string // that index and the line in it, for errors
	Line                int
}

// Index is a Packages file in memory.
type Index struct {
	Name     string // of the file, for errors: bookworm/main/binary-amd64/Packages
	Suite    string
	Packages map[string][]*Package // by name; the highest version first

	providers map[string][]provider // by the name provided, sorted by the provider's name
	essential []string              // the names of which a version is Essential, sorted
	lines     map[stanza]int        // where a package stands, while the file is read
}

// stanza is what a Packages file has once.
type stanza struct{ name, version, arch string }

type provider struct {
	pkg     *Package
	version string // "" for an unversioned Provides
}

// Archive is one suite of an archive, for one architecture, with the chain of hashes verified from its signature down.
type Archive struct {
	Release *Release
	Index   *Index

	suite   string
	get     Getter
	sources map[string][]*Source // read when first asked for
}

// Load verifies the suite's InRelease against the keys and reads the Packages index of its component main.
// arch is Debian's name: amd64, i386. Nothing of an index is used before its hash was found to match.
func Load(ctx context.Context, get Getter, suite, arch string, keys *Keys) (*Archive, error) {
	if !safePath(suite) || !isArch(arch) {
		return nil, fault.New(fault.Input, "load archive",
			"suite %q, architecture %q: want names as in bookworm, amd64", suite, arch)
	}
	signed, err := readInRelease(ctx, get, suite)
	if err != nil {
		return nil, err
	}
	release, err := VerifyRelease(suite, signed, keys)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(release.Architectures, arch) {
		return nil, fault.New(fault.Input, "InRelease of "+suite, "it has no architecture %q, but %s", arch,
			strings.Join(release.Architectures, " "))
	}
	a := &Archive{Release: release, suite: suite, get: get}
	file := "main/binary-" + arch + "/Packages"
	err = a.readIndex(ctx, file, func(r io.Reader) error {
		a.Index, err = ReadIndex(suite+"/"+file, suite, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func readInRelease(ctx context.Context, get Getter, suite string) ([]byte, error) {
	op := "InRelease of " + suite
	r, err := get.Get(ctx, "dists/"+suite+"/InRelease", "", 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	defer r.Close()
	signed, err := io.ReadAll(io.LimitReader(r, maxInRelease+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if len(signed) > maxInRelease {
		return nil, fault.New(fault.Input, op, "it is longer than %d bytes", maxInRelease)
	}
	return signed, nil
}

// readIndex gets an index, compressed as the release has it, hands its text to parse, and checks size and hash.
// Where the bytes are not those that the release names, that is the error, whatever parse made of them.
func (a *Archive) readIndex(ctx context.Context, file string, parse func(io.Reader) error) error {
	op := a.suite + "/" + file
	want, compression, ok := FileHash{}, "", false
	for _, compression = range []string{"xz", "gz", ""} {
		if want, ok = a.Release.Files[strings.TrimSuffix(file+"."+compression, ".")]; ok {
			break
		}
	}
	if !ok {
		return fault.New(fault.Input, "InRelease of "+a.suite, "it names no %s.xz", file)
	}
	if want.Size > maxIndex {
		return fault.New(fault.Input, "InRelease of "+a.suite, "%s has %d bytes, more than the bound of %d",
			want.Name, want.Size, maxIndex)
	}
	raw, err := a.get.Get(ctx, "dists/"+a.suite+"/"+want.Name, want.SHA256, want.Size)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer raw.Close()
	check := &hashing{r: &source{r: raw}, sum: sha256.New(), bound: want.Size}
	perr := parseCompressed(check, compression, parse)
	if _, err := io.Copy(io.Discard, check); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if got := hex.EncodeToString(check.sum.Sum(nil)); check.n != want.Size || got != want.SHA256 {
		return fault.New(fault.Input, op,
			"the mirror's %s is not the one that InRelease names: it has %s and SHA-256 %s, want %d and %s",
			want.Name, sizeText(check.n, want.Size), got, want.Size, want.SHA256).
			WithRemedy("Try again in some minutes, a mirror may be in the midst of an update; else use another mirror.")
	}
	return perr
}

func parseCompressed(r io.Reader, compression string, parse func(io.Reader) error) error {
	text, err := decompress(r, compression)
	if err != nil {
		return err
	}
	defer text.Close()
	return parse(&bounded{r: text, left: maxIndexText})
}

// hashing sums up what is read, and ends the stream one byte past its bound, which is enough to see that it is too
// long.
type hashing struct {
	r     *source
	sum   hash.Hash
	n     int64
	bound int64
}

func (h *hashing) Read(p []byte) (int, error) {
	left := h.bound + 1 - h.n
	if left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	h.n += int64(n)
	return n, err
}

func sizeText(n, bound int64) string {
	if n > bound {
		return fmt.Sprintf("more than %d bytes", bound)
	}
	return fmt.Sprintf("%d bytes", n)
}

var packageFields = []string{
	"Package", "Version", "Architecture", "Source", "Essential", "Priority", "Multi-Arch", "Pre-Depends", "Depends",
	"Conflicts", "Breaks", "Provides", "Filename", "Size", "SHA256", "Installed-Size",
}

// ReadIndex reads a Packages file, uncompressed. name stands in errors.
func ReadIndex(name, suite string, r io.Reader) (*Index, error) {
	idx := &Index{
		Name: name, Suite: suite, Packages: map[string][]*Package{}, providers: map[string][]provider{},
		lines: map[stanza]int{},
	}
	paragraphs := NewParagraphReader(name, r, packageFields...)
	for {
		p, err := paragraphs.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(p.Fields) == 0 {
			continue
		}
		pkg, err := newPackage(p)
		if err == nil {
			pkg.Suite, pkg.Index = suite, name
			err = idx.add(pkg)
		}
		if err != nil {
			return nil, fault.New(fault.Input, "read "+name, "%w", err)
		}
	}
	if len(idx.Packages) == 0 {
		return nil, fault.New(fault.Input, "read "+name, "it lists no package")
	}
	idx.lines = nil
	idx.sort()
	return idx, nil
}

func (idx *Index) sort() {
	for name, versions := range idx.Packages {
		if slices.ContainsFunc(versions, func(p *Package) bool { return p.Essential }) {
			idx.essential = append(idx.essential, name)
		}
		slices.SortStableFunc(versions, func(a, b *Package) int { return mustCompare(b.Version, a.Version) })
	}
	slices.Sort(idx.essential)
	for _, all := range idx.providers {
		slices.SortStableFunc(all, func(a, b provider) int { return strings.Compare(a.pkg.Name, b.pkg.Name) })
	}
}

// newPackage checks a paragraph of a Packages file: without Filename, Size and SHA256 a package cannot be pinned.
func newPackage(p *Paragraph) (*Package, error) {
	for _, must := range []string{"Package", "Version", "Architecture", "Filename", "Size", "SHA256"} {
		if p.Get(must) == "" {
			return nil, fmt.Errorf("line %d: package %s has no field %s", p.Line, orUnnamed(p.Get("Package")), must)
		}
	}
	pkg := &Package{
		Name: p.Get("Package"), Version: p.Get("Version"), Arch: p.Get("Architecture"), Source: p.Get("Source"),
		Essential: p.Get("Essential") == "yes", Priority: p.Get("Priority"), MultiArch: p.Get("Multi-Arch"),
		PreDepends: p.Get("Pre-Depends"), Depends: p.Get("Depends"), Conflicts: p.Get("Conflicts"),
		Breaks: p.Get("Breaks"), Provides: p.Get("Provides"), Filename: p.Get("Filename"),
		SHA256: p.Get("SHA256"), Line: p.Line,
	}
	at := func(field string, err error) error {
		return fmt.Errorf("line %d: package %s: %s: %w", p.Field(field).Line, pkg.Name, field, err)
	}
	if err := checkName(pkg.Name); err != nil {
		return nil, at("Package", err)
	}
	if _, err := ParseVersion(pkg.Version); err != nil {
		return nil, at("Version", err)
	}
	if !isArch(pkg.Arch) {
		return nil, at("Architecture", fmt.Errorf("it is %q, want an architecture", pkg.Arch))
	}
	if !safePath(pkg.Filename) {
		return nil, at("Filename", fmt.Errorf("it is %q, want a clean relative path", pkg.Filename))
	}
	if err := checkSHA256(pkg.SHA256); err != nil {
		return nil, at("SHA256", err)
	}
	var err error
	if pkg.Size, err = parseSize(p.Get("Size")); err != nil {
		return nil, at("Size", err)
	}
	if size := p.Get("Installed-Size"); size != "" {
		if pkg.InstalledSize, err = parseSize(size); err != nil {
			return nil, at("Installed-Size", err)
		}
	}
	return pkg, nil
}

func (idx *Index) add(pkg *Package) error {
	key := stanza{pkg.Name, pkg.Version, pkg.Arch}
	if line, ok := idx.lines[key]; ok {
		return fmt.Errorf("line %d: package %s %s comes twice, first on line %d",
			pkg.Line, pkg.Name, pkg.Version, line)
	}
	idx.lines[key] = pkg.Line
	idx.Packages[pkg.Name] = append(idx.Packages[pkg.Name], pkg)
	groups, err := ParseRelations(pkg.Provides)
	if err != nil {
		return fmt.Errorf("line %d: package %s: Provides: %w", pkg.Line, pkg.Name, err)
	}
	for _, g := range groups {
		if len(g) != 1 || g[0].Op != "" && g[0].Op != "=" {
			return fmt.Errorf("line %d: package %s: Provides: %q, want NAME or NAME (= VERSION)", pkg.Line, pkg.Name, g)
		}
		idx.providers[g[0].Name] = append(idx.providers[g[0].Name], provider{pkg, g[0].Version})
	}
	return nil
}

// mustCompare compares versions that were parsed before.
func mustCompare(a, b string) int {
	c, err := CompareVersions(a, b)
	if err != nil {
		return strings.Compare(a, b)
	}
	return c
}

func orUnnamed(name string) string {
	if name == "" {
		return "(unnamed)"
	}
	return name
}
