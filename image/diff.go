package image

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
)

// What can differ of a path or of a package: the words of reports and of allow-lists.
const (
	DiffAdded   = "added"   // only the second image has it
	DiffRemoved = "removed" // only the first one has it
	DiffType    = "type"
	DiffMode    = "mode"
	DiffOwner   = "owner"
	DiffTarget  = "target" // of a symbolic link
	DiffDevice  = "device" // its numbers
	DiffLinks   = "links"  // which names are the same file
	DiffXattrs  = "xattrs"
	DiffContent = "content"
	DiffMTime   = "mtime"
	DiffVersion = "version" // of a package
	DiffState   = "state"   // of a package
)

var (
	fileDiffs = []string{
		DiffAdded, DiffRemoved, DiffType, DiffMode, DiffOwner, DiffTarget, DiffDevice, DiffLinks, DiffXattrs, DiffContent,
		DiffMTime,
	}
	packageDiffs = []string{DiffAdded, DiffRemoved, DiffVersion, DiffState}
)

// Difference is one thing that two images do not agree in.
type Difference struct {
	Path    string `json:"path,omitempty"`    // of a file
	Package string `json:"package,omitempty"` // that the file belongs to, or that differs itself where there is no path
	What    string `json:"what"`
	A       string `json:"a,omitempty"`
	B       string `json:"b,omitempty"`
	Detail  string `json:"detail,omitempty"` // of a content: where the first difference is
	Allowed string `json:"allowed,omitempty"`

	a, b *node // of a content
}

// Diff is what came of a comparison.
type Diff struct {
	A         string       `json:"a"`
	B         string       `json:"b"`
	Same      bool         `json:"same"` // but for what is allowed
	Paths     int          `json:"paths"`
	Contents  int          `json:"contents"` // files whose bytes were compared
	Bytes     int64        `json:"bytes"`    // of those
	Packages  []Difference `json:"packages"`
	Files     []Difference `json:"files"`
	Explained int          `json:"explained"` // differences that the allow-list explains
	Unused    []AllowEntry `json:"unused"`    // entries of the allow-list that explain nothing
}

// DiffOptions say what counts.
type DiffOptions struct {
	MTime bool       // dates count as well
	Allow *AllowList // may be nil
}

// Compare compares two images by package and by path. Contents are compared byte by byte, several files at a time.
func Compare(ctx context.Context, a, b *Image, opts DiffOptions) (*Diff, error) {
	for _, m := range []*Image{a, b} {
		if _, err := m.files(); err != nil {
			return nil, err
		}
	}
	d := &Diff{A: a.Name, B: b.Name, Packages: []Difference{}, Files: []Difference{}, Unused: []AllowEntry{}}
	d.Packages = append(d.Packages, diffPackages(a.database().packages, b.database().packages)...)
	names := map[string][2]*node{}
	for name, n := range a.tree.all() {
		names[name] = [2]*node{n, nil}
	}
	for name, n := range b.tree.all() {
		names[name] = [2]*node{names[name][0], n}
	}
	d.Paths = len(names)
	c := comparison{a: a, b: b, opts: opts, seen: map[[2]*node]*Difference{}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c.path(name, names[name][0], names[name][1])
	}
	if err := c.contents(ctx); err != nil {
		return nil, err
	}
	d.Contents, d.Bytes = len(c.pairs), c.bytes
	for _, f := range c.found {
		if f.What != "" { // contents that came out the same
			d.Files = append(d.Files, *f)
		}
	}
	opts.Allow.explain(d)
	d.Same = len(d.Packages)+len(d.Files) == d.Explained && len(d.Unused) == 0
	return d, nil
}

func diffPackages(a, b []InstalledPackage) []Difference {
	key := func(p InstalledPackage) string { return p.Name + ":" + p.Arch }
	all := map[string][2]*InstalledPackage{}
	for i := range a {
		all[key(a[i])] = [2]*InstalledPackage{&a[i], nil}
	}
	for i := range b {
		all[key(b[i])] = [2]*InstalledPackage{all[key(b[i])][0], &b[i]}
	}
	var found []Difference
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch p, q := all[name][0], all[name][1]; {
		case q == nil:
			found = append(found, Difference{Package: name, What: DiffRemoved, A: p.Version})
		case p == nil:
			found = append(found, Difference{Package: name, What: DiffAdded, B: q.Version})
		default:
			if p.Version != q.Version {
				found = append(found, Difference{Package: name, What: DiffVersion, A: p.Version, B: q.Version})
			}
			if p.State != q.State {
				found = append(found, Difference{Package: name, What: DiffState, A: p.State, B: q.State})
			}
		}
	}
	return found
}

// comparison is a comparison on its way.
type comparison struct {
	a, b  *Image
	opts  DiffOptions
	found []*Difference // in the order of paths
	pairs []pair        // contents to be compared
	seen  map[[2]*node]*Difference
	bytes int64
}

// pair are two files whose contents have to be compared. Hard links are compared once, and told under the first name.
type pair struct {
	a, b *node
	to   *Difference
}

func (c *comparison) add(name, what, a, b string) *Difference {
	owner := c.a.database().owner(name)
	if owner == "" {
		owner = c.b.database().owner(name)
	}
	d := &Difference{Path: absolute(name), Package: owner, What: what, A: a, B: b}
	c.found = append(c.found, d)
	return d
}

// path compares what two images have under a name; a nil says that one has nothing.
func (c *comparison) path(name string, a, b *node) {
	switch {
	case b == nil:
		c.add(name, DiffRemoved, describe(a), "")
		return
	case a == nil:
		c.add(name, DiffAdded, "", describe(b))
		return
	case a.mode&typeMask != b.mode&typeMask:
		c.add(name, DiffType, describe(a), describe(b))
		return
	}
	differ := func(what, a, b string) {
		if a != b {
			c.add(name, what, a, b)
		}
	}
	if a.mode&typeMask != typeLink { // Linux gives a symbolic link no mode
		differ(DiffMode, octal(a.mode), octal(b.mode))
	}
	differ(DiffOwner, fmt.Sprintf("%d:%d", a.uid, a.gid), fmt.Sprintf("%d:%d", b.uid, b.gid))
	differ(DiffTarget, a.link, b.link)
	differ(DiffDevice, device(a), device(b))
	differ(DiffLinks, c.a.sameAs(name, a), c.b.sameAs(name, b))
	differ(DiffXattrs, xattrsText(a.xattrs), xattrsText(b.xattrs))
	if a.mode&typeMask == typeFile {
		c.queue(name, a, b)
	}
	if c.opts.MTime {
		date := func(n *node) string { return time.Unix(n.mtime, 0).UTC().Format(time.RFC3339) }
		differ(DiffMTime, date(a), date(b))
	}
}

// queue notes two contents for comparing. The difference is filled in, or taken back, when that is done.
func (c *comparison) queue(name string, a, b *node) {
	if a.size == 0 && b.size == 0 || c.seen[[2]*node{a, b}] != nil {
		return
	}
	d := c.add(name, "", "", "")
	d.a, d.b = a, b
	c.seen[[2]*node{a, b}] = d
	c.pairs = append(c.pairs, pair{a, b, d})
}

// describe says in a few words what a file is that the other image has not.
func describe(n *node) string {
	text := typeName(n.mode)
	switch n.mode & typeMask {
	case typeLink:
		return text + " to " + n.link
	case typeChar, typeBlock:
		text += " " + device(n)
	case typeFile:
		text = fmt.Sprintf("%s of %d bytes", text, n.size)
	}
	return fmt.Sprintf("%s, mode %s, owner %d:%d", text, octal(n.mode), n.uid, n.gid)
}

// sameAs lists the other names of a file.
func (m *Image) sameAs(name string, n *node) string {
	var others []string
	for _, other := range m.links[n] {
		if other != name {
			others = append(others, absolute(other))
		}
	}
	return strings.Join(others, " ")
}

func xattrsText(xattrs map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		all = append(all, name+"="+xattrText(name, xattrs[name]))
	}
	return strings.Join(all, " ")
}

// contents compares the queued contents on all cores. The order of the findings stays that of the paths.
func (c *comparison) contents(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan pair)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range max(1, min(runtime.GOMAXPROCS(0), len(c.pairs))) {
		wg.Go(func() {
			var w contentComparer
			for p := range next {
				n, err := w.compare(ctx, p)
				if err != nil && ctx.Err() == nil {
					cancel(fault.New(fault.Input, "compare "+p.to.Path, "%w", err))
				}
				mu.Lock()
				c.bytes += n
				mu.Unlock()
			}
		})
	}
	for _, p := range c.pairs {
		if ctx.Err() != nil {
			break
		}
		next <- p
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
