package image

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
)

// Package is a binary package for the base layer.
type Package struct {
	Name, Version, Arch string
	Size                int64 // of its file: the largest are begun first, so that all cores end together
	Open                func() (io.ReadCloser, error)

	// Repack, where it is set, is asked where to write the package once more in a form that is read faster (see
	// debian.Repack). Its result is told how that went; it is nobody's failure if it went wrong.
	Repack func() (to io.WriterAt, done func(error))
}

// BaseOptions say how a base layer is made.
type BaseOptions struct {
	Clock    time.Time             // greatest mtime of any file
	TempDir  string                // for the spool; "" is the system's
	Progress func(done, total int) // packages unpacked so far; may be nil; called from one goroutine at a time
}

// WriteBase unpacks the packages into a root disk, as 'dpkg --unpack' would do it and without running anything of
// theirs: /usr is merged, conffiles lie beside their names as .dpkg-new, and dpkg's database says of each package
// that it is unpacked and not configured.
//
// Each content is written twice, to the spool as it is decompressed and from there to its place on the disk: where that
// is follows from the sizes of all the files before it, which a package tells only at its end.
func WriteBase(ctx context.Context, out *os.File, pkgs []Package, opts BaseOptions) (err error) {
	defer func() { err = diskFault("write base image", folderOf(out), err) }()
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
	size, err := writeErofs(ctx, io.NewOffsetWriter(out, partStart), t, opts.Clock)
	if err != nil {
		return err
	}
	return finishDisk(out, size)
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
		return nil, ownPlace("dpkg's database", err)
	}
	if err := addSystem(t, clock); err != nil {
		return nil, ownPlace("what a system needs to boot", err)
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
			return noRoom(u, m, err)
		}
		n := m.node
		if m.hard != "" {
			n = laid[m.hard]
		}
		laid[m.name] = n
		if old := t.get(name); old != nil {
			if stays(t, name, old, n) {
				continue
			}
			other := byName[old.owner]
			if other == u {
				return fault.New(fault.Input, "", "its /%s is its /%s too, by way of a symbolic link",
					m.name, name).WithRemedy("Leave the package out of the spec: in a merged /usr it has one path twice.")
			}
			if other == nil || old.isDir() {
				return fault.New(fault.Input, "", "/%s is %s here, and %s before it",
					m.name, n.kind(), old.kind()).WithRemedy("Leave the package out of the spec.")
			}
			if diverter := diverts(u, other); diverter == u {
				u.aside = append(u.aside, aside{m.name, n})
				continue
			} else if diverter == other {
				other.aside = append(other.aside, aside{m.name, old})
			} else if takes, err := settle(u, other, m.name); err != nil {
				return err
			} else if !takes {
				continue
			}
		}
		if err := t.put(name, n); err != nil {
			return noRoom(u, m, err)
		}
	}
	return nil
}

// ownPlace says that a package has something where the image's own files must be.
func ownPlace(what string, err error) error {
	if fault.KindOf(err) != fault.Unknown {
		return err
	}
	return fault.New(fault.Input, "base image", "no room for %s: %w", what, err).
		WithRemedy("Leave the package that ships it out of the spec, or lock another version of it.")
}

// noRoom says that a member of a package has no place in the tree.
func noRoom(u *unpacked, m member, err error) error {
	return fault.New(fault.Input, "", "/%s: %w", m.name, err).
		WithRemedy("Leave the package %s out of the spec, or lock another version: it does not go with the others.",
			u.pkg.Name)
}

// stays reports whether dpkg leaves what is there as it is, whoever shipped it: a folder, or a link to one, where a
// folder comes; a folder where a link comes; a link to a folder where the same link comes (tarobject and
// linktosameexistingdir in dpkg's src/main/archives.c).
func stays(t *tree, name string, old, n *node) bool {
	switch n.mode & typeMask {
	case typeDir:
		return leadsToDir(t, name)
	case typeLink:
		return old.isDir() || old.mode&typeMask == typeLink && old.link == n.link && leadsToDir(t, name)
	}
	return false
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
