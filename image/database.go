package image

import (
	"fmt"
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
		paths := make([]string, 0, len(u.members))
		for _, m := range u.members {
			if !u.lost[m.name] {
				paths = append(paths, m.name)
			}
		}
		files, err := debian.InfoFiles(u.deb, paths)
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
		"status": status.String(), "available": "", "diversions": "", "statoverride": "",
		"info/format": debian.InfoFormat,
	} {
		if err := t.text(dpkgDir+name, 0o644, clock, text); err != nil {
			return err
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
	return false, fault.New(fault.Input, "unpack "+newcomer.pkg.Name,
		"/%s is in %s too, and neither package replaces the other", name, old.pkg.Name).
		WithRemedy("Leave one of the two packages out of the spec: they do not go together.")
}

func (u *unpacked) replaces(other *unpacked) bool {
	return slices.ContainsFunc(u.overrides, func(r debian.Relation) bool {
		return r.Name == other.pkg.Name && r.Accepts(other.pkg.Version)
	})
}

// overridden reads the field Replaces.
func overridden(control []byte) ([]debian.Relation, error) {
	p, err := debian.ParseParagraph("control", control)
	if err != nil {
		return nil, err
	}
	groups, err := debian.ParseRelations(p.Get("Replaces"))
	if err != nil {
		return nil, fmt.Errorf("field Replaces: %w", err)
	}
	return slices.Concat(groups...), nil
}
