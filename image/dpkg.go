package image

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/belljar/belljar/image/debian"
)

// InstalledPackage is a package as an image's dpkg database has it.
type InstalledPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	State   string `json:"state"` // as in the field Status: want, flag, status
}

// dpkg is what an image says of itself: its packages, which of them a path belongs to, and the names of owners.
type dpkg struct {
	packages      []InstalledPackage
	owners        map[string]string // by path in the tree
	users, groups map[uint32]string
	err           error // why there is no status, or no whole one
}

// Bounds on what is read into memory of a foreign image.
const (
	maxStatus = 64 << 20
	maxOwned  = 16 << 20
)

// database reads the image's dpkg database at first use.
func (m *Image) database() *dpkg {
	if m.dpkg != nil {
		return m.dpkg
	}
	m.dpkg = &dpkg{owners: map[string]string{}, users: map[uint32]string{}, groups: map[uint32]string{}}
	if m.tree == nil {
		return m.dpkg
	}
	m.dpkg.packages, m.dpkg.err = m.readStatus()
	m.dpkg.readOwners(m.tree)
	m.dpkg.users, m.dpkg.groups = m.names("etc/passwd"), m.names("etc/group")
	return m.dpkg
}

func (m *Image) readStatus() ([]InstalledPackage, error) {
	all := []InstalledPackage{}
	data, err := m.textOf(dpkgDir+"status", maxStatus)
	if errors.Is(err, fs.ErrNotExist) { // not every root is Debian's
		return all, nil
	}
	if err != nil {
		return all, err
	}
	r := debian.NewParagraphReader("/"+dpkgDir+"status", bytes.NewReader(data),
		"Package", "Version", "Architecture", "Status")
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return all, err
		}
		all = append(all, InstalledPackage{
			p.Get("Package"), p.Get("Version"), p.Get("Architecture"), p.Get("Status"),
		})
	}
	slices.SortFunc(all, func(a, b InstalledPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	return all, nil
}

// readOwners reads info/*.list. A folder belongs to a package only where no other ships it too.
func (d *dpkg) readOwners(t *tree) {
	info := t.get(dpkgDir + "info")
	if info == nil || !info.isDir() {
		return
	}
	resolved := map[string]string{} // of folders: most paths share theirs
	for base, n := range info.children {
		stem, ok := strings.CutSuffix(base, ".list")
		if !ok {
			continue
		}
		pkg, _, _ := strings.Cut(stem, ":")
		data, err := n.read(maxOwned)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			name := strings.Trim(line, "/")
			if name == "" || name == "." {
				continue
			}
			dir, ok := resolved[path.Dir(name)]
			if !ok {
				// The list may say /bin/sh, which a merged /usr has as /usr/bin/sh.
				whole, err := t.resolve(name)
				if err != nil {
					continue
				}
				dir = path.Dir(whole)
				resolved[path.Dir(name)] = dir
			}
			name = path.Join(dir, path.Base(name))
			if other, shared := d.owners[name]; shared && other != pkg {
				d.owners[name] = ""
				if n := t.get(name); n != nil && !n.isDir() {
					d.owners[name] = min(other, pkg) // libc6:amd64 and libc6:i386 share a file
				}
				continue
			}
			d.owners[name] = pkg
		}
	}
}

// owner is the package that a path belongs to; empty where none has it. What dpkg keeps of a package counts as its.
func (d *dpkg) owner(name string) string {
	name = path.Clean(name)
	if pkg, ok := d.owners[name]; ok {
		return pkg
	}
	base, ok := strings.CutPrefix(name, dpkgDir+"info/")
	if i := strings.LastIndexByte(base, '.'); ok && i > 0 {
		if pkg, _, _ := strings.Cut(base[:i], ":"); d.has(pkg) {
			return pkg
		}
	}
	return ""
}

func (d *dpkg) has(name string) bool {
	_, found := slices.BinarySearchFunc(d.packages, name, func(p InstalledPackage, name string) int {
		return strings.Compare(p.Name, name)
	})
	return found
}

// names reads a file in the form of passwd(5) or group(5): the name of each number. The first one wins, as in libc.
func (m *Image) names(file string) map[uint32]string {
	names := map[uint32]string{}
	data, err := m.textOf(file, maxOwned)
	if err != nil {
		return names
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		f := strings.Split(line, ":")
		if len(f) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && names[uint32(id)] == "" {
			names[uint32(id)] = f[0]
		}
	}
	return names
}

// textOf reads a small file of the image; fs.ErrNotExist where no path leads to one.
func (m *Image) textOf(name string, limit int64) ([]byte, error) {
	_, n, err := m.find(name, true)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return n.read(limit)
}
