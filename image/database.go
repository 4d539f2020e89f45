package image

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the form of dpkg's database
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

const dpkgDir = "var/lib/dpkg/"

// addDatabase writes dpkg's database for packages that are unpacked and not configured. The folder triggers is left
// to dpkg, which makes it from info/*.triggers at its next run.
func addDatabase(t *tree, all []*unpacked, clock time.Time) error {
	var status strings.Builder
	for _, u := range all {
		paragraph, err := debian.StatusParagraph(u.deb.Control()["control"], u.conffiles)
		if err != nil {
			return err
		}
		status.Write(paragraph)
		files, err := infoFiles(u)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := t.text(dpkgDir+"info/"+f.Name, uint32(f.Mode.Perm()), clock, string(f.Data)); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{
		"status": status.String(), "diversions": "",
		"info/format": debian.InfoFormat,
	} {
		if err := t.text(dpkgDir+name, 0o644, clock, text); err != nil {
			return err
		}
	}
	return addPlan(t, all, clock)
}

// infoFiles are what dpkg keeps of a package in info. The list has not what waits for a diversion: to dpkg-divert a
// path of the diverting package's own is nothing to rename.
func infoFiles(u *unpacked) ([]debian.InfoFile, error) {
	paths := make([]string, 0, len(u.members))
	for _, m := range u.members {
		if !u.lost[m.name] && !slices.ContainsFunc(u.aside, func(a aside) bool { return a.path == m.name }) {
			paths = append(paths, m.name)
		}
	}
	files, err := debian.InfoFiles(u.deb, paths)
	if err != nil || u.deb.Control()["md5sums"] != nil {
		return files, err
	}
	sums, err := md5sums(u)
	if err != nil {
		return nil, err
	}
	stem := strings.TrimSuffix(listName(files), "list")
	return append(files, debian.InfoFile{Name: stem + "md5sums", Mode: 0o644, Data: sums}), nil
}

// listName is the name of the list among a package's files.
func listName(files []debian.InfoFile) string {
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".list") {
			return f.Name
		}
	}
	return ""
}

// md5sums are those of a package that brings none: dpkg makes them when it unpacks it (src/main/unpack.c,
// write_filehash_except), in the order of the list.
func md5sums(u *unpacked) ([]byte, error) {
	var b bytes.Buffer
	laid := map[string]*node{}
	for _, m := range u.members {
		n := m.node
		if m.hard != "" {
			n = laid[m.hard]
		}
		laid[m.name] = n
		if n == nil || n.mode&typeMask != typeFile {
			continue
		}
		hash := md5.New() //nolint:gosec // the form of dpkg's database
		if _, err := io.Copy(hash, n.reader()); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%x  %s\n", hash.Sum(nil), m.name)
	}
	return b.Bytes(), nil
}

// aside is a file of a package whose preinst is to divert the path, which another package has. The preinst runs in the
// guest: until then the other's file lies there.
type aside struct {
	path string
	node *node
}

// diverts says which of two packages that both ship a path takes it by a diversion (dpkg-divert(1)): the one whose
// preinst sets diversions, where neither Replaces the other. Whether it does set this one shows in the guest.
func diverts(newcomer, old *unpacked) *unpacked {
	if newcomer.replaces(old) || old.replaces(newcomer) {
		return nil
	}
	for _, u := range []*unpacked{newcomer, old} {
		if bytes.Contains(u.deb.Control()["preinst"], []byte("dpkg-divert")) {
			return u
		}
	}
	return nil
}

// settle decides which of two packages has a path that both ship: the one that Replaces the other, as in
// Debian Policy 7.6.1. It reports whether the newcomer takes it; the other loses it from its list.
func settle(newcomer, old *unpacked, name string) (bool, error) {
	switch {
	case newcomer.replaces(old):
		old.lost[name] = true
		return true, nil
	case old.replaces(newcomer):
		newcomer.lost[name] = true
		return false, nil
	}
	return false, fault.New(fault.Input, "",
		"/%s is in %s too, and neither package replaces the other", name, old.pkg.Name).
		WithRemedy("Leave one of the two packages out of the spec: they do not go together.")
}

func (u *unpacked) replaces(other *unpacked) bool {
	return slices.ContainsFunc(u.overrides, func(r debian.Relation) bool {
		return r.Name == other.pkg.Name && r.Accepts(other.pkg.Version)
	})
}

// overridden reads the field Replaces, of the package that was asked for and of no other.
func overridden(pkg Package, control []byte) ([]debian.Relation, error) {
	p, err := debian.ParseParagraph("control of "+pkg.Name, control)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, want string }{
		{"Package", pkg.Name}, {"Version", pkg.Version}, {"Architecture", pkg.Arch},
	} {
		if got := p.Get(f.name); got != f.want {
			return nil, fault.New(fault.Input, "read control of "+pkg.Name, "%s is %q, want %q as in the archive's index",
				f.name, got, f.want).WithRemedy("Lock the spec again: the archive has another package under this name.")
		}
	}
	groups, err := debian.ParseRelations(p.Get("Replaces"))
	if err != nil {
		return nil, fault.New(fault.Input, "read control of "+pkg.Name, "line %d: Replaces: %w", p.Field("Replaces").Line, err).
			WithRemedy("Leave the package out of the spec, or lock another version of it.")
	}
	return slices.Concat(groups...), nil
}
