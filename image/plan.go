package image

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/image/debian"
)

// planDir tells configure.sh what to do in which order. The final root does not have it.
//
//	library, first, early   packages: what to configure before the rest, in these steps (see order)
//	preinst                 packages, one a line: whose preinst to run, in this order; but for those of library
//	tmp.ci/PACKAGE/         the control members of a package with a preinst, under their own names: what dpkg has in
//	                        /var/lib/dpkg/tmp.ci while it runs one (src/main/unpack.c), and where debconf looks for
//	                        whose script it serves
//	divert/PACKAGE          paths that its preinst is to divert, one a line; the files themselves are below
//	aside/PACKAGE/          and take their places after it, as does the list that has them
//	list/PACKAGE/
//
// A package is spelled as dpkg takes it: NAME:ARCH, or NAME where the architecture is all.
const planDir = dpkgDir + "belljar/"

// addPlan lays the plan's files.
func addPlan(t *tree, all []*unpacked, clock time.Time) error {
	c, err := newConfiguring(all)
	if err != nil {
		return err
	}
	for _, u := range all {
		if err := setAside(t, u, clock); err != nil {
			return err
		}
	}
	library, first, early := c.order()
	preinst := ""
	for _, p := range c.preinsts() {
		if !slices.Contains(library, p.spelled()) {
			preinst += p.spelled() + "\n"
		}
		for _, member := range slices.Sorted(maps.Keys(p.members)) {
			mode := uint32(p.deb.ControlMode(member).Perm())
			if err := t.text(planDir+"tmp.ci/"+p.spelled()+"/"+member, mode, clock, string(p.members[member])); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{
		"library": strings.Join(library, " ") + "\n", "first": strings.Join(first, " ") + "\n",
		"early": strings.Join(early, " ") + "\n", "preinst": preinst,
	} {
		if err := t.text(planDir+name, 0o644, clock, text); err != nil {
			return err
		}
	}
	return nil
}

// setAside lays the files of a package whose places are still another's.
func setAside(t *tree, u *unpacked, clock time.Time) error {
	if len(u.aside) == 0 {
		return nil
	}
	list, name := "", spelled(u.pkg.Name, u.pkg.Arch)
	for _, a := range u.aside {
		list += "/" + a.path + "\n"
		if err := t.put(planDir+"aside/"+name+"/"+a.path, a.node); err != nil {
			return err
		}
	}
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
	whole := planDir + "list/" + name + "/" + listName(files)
	if err := t.text(whole, 0o644, clock, string(debian.ListFile(paths))); err != nil {
		return err
	}
	return t.text(planDir+"divert/"+name, 0o644, clock, list)
}

// configuring are packages that are to be configured together.
type configuring struct {
	names  []string // sorted
	byName map[string]*toConfigure
}

type toConfigure struct {
	deb                 *debian.Deb
	members             map[string][]byte
	name, arch          string
	provides            []string
	preDepends, depends []debian.Relation // the alternatives of all, in one list
}

func newConfiguring(all []*unpacked) (*configuring, error) {
	c := &configuring{byName: map[string]*toConfigure{}}
	for _, u := range all {
		p, err := debian.ParseParagraph("control", u.deb.Control()["control"])
		if err != nil {
			return nil, err
		}
		t := &toConfigure{
			deb: u.deb, members: u.deb.Control(), name: p.Get("Package"), arch: p.Get("Architecture"),
		}
		var provides []debian.Relation
		for field, to := range map[string]*[]debian.Relation{
			"Provides": &provides, "Pre-Depends": &t.preDepends, "Depends": &t.depends,
		} {
			groups, err := debian.ParseRelations(p.Get(field))
			if err != nil {
				return nil, fmt.Errorf("%s: field %s: %w", t.name, field, err)
			}
			*to = slices.Concat(groups...)
		}
		for _, r := range provides {
			t.provides = append(t.provides, r.Name)
		}
		c.byName[t.name] = t
	}
	c.names = slices.Sorted(maps.Keys(c.byName))
	return c, nil
}

// preinsts are the packages whose preinst has something to do. Each comes after those that it pre-depends on (Debian
// Policy 7.2); base-passwd's, which makes the users, is the first; otherwise the order is the names'.
func (c *configuring) preinsts() []*toConfigure {
	var order []*toConfigure
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		p := c.byName[name]
		if p == nil || seen[name] {
			return
		}
		seen[name] = true
		for _, r := range p.preDepends {
			visit(r.Name)
		}
		if script, ok := p.members["preinst"]; ok && !idlePreinst(script) {
			order = append(order, p)
		}
	}
	visit("base-passwd")
	for _, name := range c.names {
		visit(name)
	}
	return order
}

// essential are packages that may use each other before they are configured: dpkg cannot order them.
var essential = []string{"base-passwd", "base-files", "libc6", "libc-bin", "perl-base", "mawk", "debconf"}

// order says what is configured before the rest, and in which steps. The library is what byte-compiles Python's own,
// which then goes on beside the others; like the essential packages, which are first, it is configured in spite of
// dependencies. Early is what neither runs Python nor depends on what does.
func (c *configuring) order() (library, first, early []string) {
	step, late := map[string]*[]string{}, map[string]bool{}
	for _, name := range essential {
		step[name] = &first
	}
	for _, name := range c.names {
		postinst := c.byName[name].members["postinst"]
		switch {
		case bytes.Contains(postinst, []byte("/py_compile.py")):
			step[name] = &library
		case bytes.Contains(postinst, []byte("py3compile")), bytes.Contains(postinst, []byte("python3")):
			late[name] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, name := range c.names {
			if !late[name] && c.dependsOn(c.byName[name], late) {
				late[name], grown = true, true
			}
		}
	}
	for _, name := range c.names {
		switch to := step[name]; {
		case to != nil:
			*to = append(*to, c.byName[name].spelled())
		case !late[name]:
			early = append(early, c.byName[name].spelled())
		}
	}
	return library, first, early
}

func (c *configuring) dependsOn(p *toConfigure, set map[string]bool) bool {
	return slices.ContainsFunc(slices.Concat(p.depends, p.preDepends), func(r debian.Relation) bool {
		return set[r.Name] || slices.ContainsFunc(c.names, func(name string) bool {
			return set[name] && slices.Contains(c.byName[name].provides, r.Name)
		})
	})
}

func (p *toConfigure) spelled() string { return spelled(p.name, p.arch) }

// spelled is a package as dpkg's command line takes it.
func spelled(name, arch string) string {
	if arch == "all" {
		return name
	}
	return name + ":" + arch
}

// idle are the scripts that do nothing where no older version is, by what debhelper's dh_installdeb and
// dh_installinit generate: each of their commands asks first for the old version, which is the script's second
// argument (dpkg-maintscript-helper(1)).
var idle = regexp.MustCompile(`\A#! ?/bin/(?:ba)?sh(?: -e)?\n(?:` + strings.Join([]string{
	`[ \t]*\n`, `[ \t]*#.*\n`, `set -e\n`, `exit 0\n`, `:\n`,
	`dpkg-maintscript-helper (?:rm_conffile|mv_conffile|symlink_to_dir|dir_to_symlink) [^$` + "`" +
		`;&|<>()\n]* -- "\$@"\n`,
	`if \[ "\$1" = "install" \] && \[ -n "\$2" \] && \[ -e "[^"$` + "`" + `\n]*" \] ; then\n[^\n]*\nfi\n`,
}, "|") + `)*\z`)

// idlePreinst reports whether a script does nothing at a first installation. It is not run then.
func idlePreinst(script []byte) bool { return idle.Match(script) }
