package image

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// Package is a binary package for the base layer.
type Package struct {
	Name, Version, Arch string
	Open                func() (io.ReadCloser, error)
}

// BaseOptions say how a base layer is made.
type BaseOptions struct {
	Clock    time.Time             // greatest mtime of any file
	TempDir  string                // for the spool; "" is the system's
	Progress func(done, total int) // packages unpacked so far; may be nil; called from one goroutine at a time
}

// unpacked is one package's members, read but not yet laid into the tree.
type unpacked struct {
	pkg       Package
	deb       *debian.Deb // closed, but it still has the control members
	conffiles debian.Conffiles
	overrides []debian.Relation // the field Replaces
	members   []member
	lost      map[string]bool // members that another package took over
}

type member struct {
	name string // as in the package: clean, relative, "." for the root
	node *node
	hard string // of a hard link: the member whose content it has
}

// WriteBase unpacks the packages into an EROFS image, as 'dpkg --unpack' would do it and without running anything of
// theirs: /usr is merged, conffiles lie beside their names as .dpkg-new, and dpkg's database says of each package
// that it is unpacked and not configured.
func WriteBase(ctx context.Context, out *os.File, pkgs []Package, opts BaseOptions) error {
	sp, err := newSpool(opts.TempDir)
	if err != nil {
		return err
	}
	defer sp.Close()
	all, err := unpackAll(ctx, pkgs, sp, opts.Progress)
	if err != nil {
		return err
	}
	t, err := baseTree(all, opts.Clock)
	if err != nil {
		return err
	}
	if _, err := writeErofs(ctx, out, t, opts.Clock); err != nil {
		return err
	}
	return out.Sync()
}

// unpackAll reads the packages, several at a time: nearly all of the work is decompression.
func unpackAll(ctx context.Context, pkgs []Package, sp *spool, progress func(done, total int)) ([]*unpacked, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := make([]*unpacked, len(pkgs))
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range min(runtime.GOMAXPROCS(0), len(pkgs)) {
		wg.Go(func() {
			for i := range next {
				u, err := unpack(ctx, pkgs[i], sp)
				if err != nil {
					cancel(fmt.Errorf("unpack %s %s: %w", pkgs[i].Name, pkgs[i].Version, err))
					continue
				}
				mu.Lock()
				all[i] = u
				if done++; progress != nil {
					progress(done, len(pkgs))
				}
				mu.Unlock()
			}
		})
	}
	for i := range pkgs {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return all, context.Cause(ctx)
}

func unpack(ctx context.Context, p Package, sp *spool) (*unpacked, error) {
	r, err := p.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	deb, err := debian.OpenDebNamed(p.Name, r)
	if err != nil {
		return nil, err
	}
	defer deb.Close()
	u := &unpacked{pkg: p, deb: deb, lost: map[string]bool{}}
	if u.conffiles, err = debian.ParseConffiles(p.Name, deb.Control()["conffiles"]); err != nil {
		return nil, err
	}
	if u.overrides, err = overridden(deb.Control()["control"]); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := deb.Next()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return nil, err
		}
		m := member{name: h.Name, node: nodeOf(h, p.Name)}
		switch h.Typeflag {
		case tar.TypeLink:
			m.hard = h.Linkname
		case tar.TypeReg:
			if m.node.data, err = sp.add(deb, h.Size); err != nil {
				return nil, fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		u.members = append(u.members, m)
	}
}

// nodeOf translates a tar header; owners are taken by number, as dpkg does when it unpacks into a fresh root.
func nodeOf(h *tar.Header, owner string) *node {
	n := &node{
		mode: uint32(h.Mode & 0o7777), uid: uint32(h.Uid), gid: uint32(h.Gid),
		mtime: h.ModTime.Unix(), owner: owner,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.mode |= typeDir
	case tar.TypeSymlink:
		n.mode = typeLink | 0o777
		n.link = h.Linkname
	case tar.TypeChar:
		n.mode |= typeChar
		n.rdev = encodeDev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeBlock:
		n.mode |= typeBlock
		n.rdev = encodeDev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeFifo:
		n.mode |= typeFifo
	default:
		n.mode |= typeFile
		n.size = h.Size
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[name] = value
		}
	}
	return n
}

// mergedDirs are the folders that live in /usr (Debian's usrmerge), by what base-files and libc6 of any architecture
// ship. The links come first, so that packages which still say ./bin/… land where they belong.
var mergedDirs = []string{"bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"}

// baseTree lays the packages into one tree. base-files goes first, because its folders set owner and mode;
// the others follow by name, so that the order of the list says nothing.
func baseTree(all []*unpacked, clock time.Time) (*tree, error) {
	slices.SortFunc(all, func(a, b *unpacked) int {
		first := func(u *unpacked) int {
			if u.pkg.Name == "base-files" {
				return 0
			}
			return 1
		}
		return cmp.Or(first(a)-first(b), strings.Compare(a.pkg.Name, b.pkg.Name))
	})
	t := newTree()
	t.root.mtime = clock.Unix()
	if err := mergeUsr(t, all, clock); err != nil {
		return nil, err
	}
	byName := map[string]*unpacked{}
	for _, u := range all {
		byName[u.pkg.Name] = u
	}
	for _, u := range all {
		if err := lay(t, u, byName); err != nil {
			return nil, fmt.Errorf("unpack %s %s: %w", u.pkg.Name, u.pkg.Version, err)
		}
	}
	if err := addDatabase(t, all, clock); err != nil {
		return nil, err
	}
	if err := addSystem(t, clock); err != nil {
		return nil, err
	}
	t.clamp(clock)
	return t, nil
}

// mergeUsr puts the links of a merged /usr, those alone that some package has a use for.
func mergeUsr(t *tree, all []*unpacked, clock time.Time) error {
	used := map[string]bool{}
	for _, u := range all {
		for _, m := range u.members {
			top, _, _ := strings.Cut(m.name, "/")
			used[top] = true
			if rest, ok := strings.CutPrefix(m.name, "usr/"); ok {
				sub, _, _ := strings.Cut(rest, "/")
				used[sub] = used[sub] || slices.Contains(mergedDirs, sub)
			}
		}
	}
	for _, d := range mergedDirs {
		if !used[d] {
			continue
		}
		if err := t.mkdirMode("usr/"+d, 0o755, clock); err != nil {
			return err
		}
		link := &node{mode: typeLink | 0o777, link: "usr/" + d, mtime: clock.Unix(), owner: "belljar"}
		if err := t.put(d, link); err != nil {
			return err
		}
	}
	return nil
}

// lay puts one package's members into the tree.
func lay(t *tree, u *unpacked, byName map[string]*unpacked) error {
	laid := map[string]*node{}
	for _, m := range u.members {
		name, err := t.resolve(u.conffiles.UnpackedName(m.name))
		if err != nil {
			return err
		}
		n := m.node
		if m.hard != "" {
			target := laid[m.hard]
			n.size, n.data = target.size, target.data
		}
		laid[m.name] = n
		if old := t.get(name); old != nil {
			if n.isDir() && leadsToDir(t, name) {
				continue // dpkg leaves a folder that is there, and a link to one, as they are
			}
			other := byName[old.owner]
			if other == nil || old.isDir() {
				return fault.New(fault.Input, "unpack "+u.pkg.Name, "/%s is %s here, and %s before it",
					m.name, n.kind(), old.kind()).WithRemedy("Leave the package out of the spec.")
			}
			takes, err := settle(u, other, m.name)
			if err != nil {
				return err
			}
			if !takes {
				continue
			}
		}
		if err := t.put(name, n); err != nil {
			return err
		}
	}
	return nil
}

// leadsToDir reports whether name is a folder or a link that ends at one.
func leadsToDir(t *tree, name string) bool {
	for range 40 {
		n := t.get(name)
		if n == nil || n.isDir() {
			return n != nil
		}
		if n.mode&typeMask != typeLink {
			return false
		}
		target := n.link
		if !strings.HasPrefix(target, "/") {
			target = path.Join(path.Dir(name), target)
		}
		var err error
		if name, err = t.resolve(strings.TrimPrefix(path.Clean(target), "/")); err != nil {
			return false
		}
	}
	return false
}

// addSystem adds what a root needs to boot and what no package ships: users from base-passwd's masters (its preinst
// would copy them), mount points, a policy that starts no daemon, and names for the loopback.
func addSystem(t *tree, clock time.Time) error {
	for _, name := range []string{"passwd", "group"} {
		master := "usr/share/base-passwd/" + name + ".master"
		n := t.get(master)
		if n == nil {
			return fault.New(fault.Input, "base image", "no package brings /%s", master).
				WithRemedy("Add base-passwd to the guest's packages.")
		}
		copied := *n
		copied.mtime = clock.Unix()
		if err := t.put("etc/"+name, &copied); err != nil {
			return err
		}
	}
	dirs := map[string]uint32{
		"belljar": 0o755, "build": 0o755, "inputs": 0o755,
		"dev": 0o755, "proc": 0o555, "run": 0o755, "sys": 0o555, "tmp": 0o1777, "root": 0o700,
	}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if t.get(name) != nil {
			continue
		}
		if err := t.mkdirMode(name, dirs[name], clock); err != nil {
			return err
		}
	}
	texts := []struct {
		name string
		mode uint32
		text string
	}{
		{"etc/hostname", 0o644, "belljar\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost belljar\n::1 localhost\n"},
		{policyRcD, 0o755, "#!/bin/sh\nexit 101\n"}, // /usr/share/doc/init-system-helpers/README.policy-rc.d
	}
	for _, f := range texts {
		if err := t.text(f.name, f.mode, clock, f.text); err != nil {
			return err
		}
	}
	return nil
}

// policyRcD forbids the starting of daemons while packages are configured. The final root does not have it.
const policyRcD = "usr/sbin/policy-rc.d"
