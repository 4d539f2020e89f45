package debian

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// This file writes what 'dpkg --unpack' leaves in /var/lib/dpkg for one package, so that 'dpkg --configure' takes it
// from there. All of it was read from dpkg 1.21 (lib/dpkg/dump.c, lib/dpkg/parse.c, src/main/unpack.c,
// src/main/archives.c) and is compared with dpkg itself by TestRealUnpack:
//
//   - status: the fields of the control member in dpkg's order, relations in dpkg's spelling,
//     'Status: install ok unpacked', and every conffile with the word newconffile for its hash. --configure replaces it
//     by the MD5 of the file that it puts in place, so 'dpkg --verify' is clean afterwards.
//   - info/NAME.list: the paths of the package, conffiles under their final name, in the order of data.tar.
//   - info/NAME.MEMBER: each control member but control itself, with the mode it has in the package.
//     A package that is Multi-Arch: same has NAME:ARCH in the place of NAME.
//   - info/format: "1\n", once.
//   - in the file system, a conffile under its name with .dpkg-new appended. --configure moves it.
//   - triggers/: left out. Where triggers/Unincorp is absent, dpkg rebuilds the folder from info/*.triggers at its next
//     run (trig_transitional_activate), with the same content.

// InfoFormat is the content of /var/lib/dpkg/info/format: 1 is the layout with architecture-qualified names.
const InfoFormat = "1\n"

// conffileSuffix marks a conffile that is unpacked and not configured.
const conffileSuffix = ".dpkg-new"

// malformed is how to mend a package that is what its digest says, and no good.
const malformed = "No copy of the package will be better: leave it out of the spec, or lock another version of it."

// Conffile is one line of the control member conffiles (deb-conffiles(5)).
type Conffile struct {
	Path            string // relative to the root, as Deb.Next names it
	RemoveOnUpgrade bool   // it is not in the package: an old version's file goes
}

// Conffiles are the conffiles of a package.
type Conffiles []Conffile

// ParseConffiles reads the control member conffiles; name stands in errors.
func ParseConffiles(name string, data []byte) (Conffiles, error) {
	var all Conffiles
	const most = 10000 // Debian's packages have some hundred; each is looked for among all
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" {
			continue
		}
		c := Conffile{}
		c.Path, c.RemoveOnUpgrade = strings.CutPrefix(line, "remove-on-upgrade ")
		if c.RemoveOnUpgrade {
			c.Path = strings.TrimLeft(c.Path, " \t")
		}
		rel, ok := strings.CutPrefix(c.Path, "/")
		clean, err := cleanPath(rel)
		if !ok || err != nil || clean != rel {
			return nil, fault.New(fault.Input, "read conffiles of "+name,
				"line %d: it reads %.80q, want an absolute clean path", i+1, line).WithRemedy(malformed)
		}
		if len(all) >= most {
			return nil, fault.New(fault.Input, "read conffiles of "+name, "line %d: it lists more than %d", i+1, most).
				WithRemedy(malformed)
		}
		c.Path = clean
		all = append(all, c)
	}
	return all, nil
}

// UnpackedName is the name under which a path of the package is written while the package is unpacked and not
// configured. It applies to files, and to both ends of a hard link.
func (c Conffiles) UnpackedName(path string) string {
	if slices.Contains(c, Conffile{Path: path}) {
		return path + conffileSuffix
	}
	return path
}

// statusFields are the fields that dpkg knows, in the order in which it writes them (fieldinfos in lib/dpkg/parse.c).
// All others follow, in the order of the control member.
var statusFields = []string{
	"Package", "Essential", "Protected", "Status", "Priority", "Section", "Installed-Size", "Origin", "Maintainer",
	"Bugs", "Architecture", "Multi-Arch", "Source", "Version", "Config-Version", "Replaces", "Provides", "Depends",
	"Pre-Depends", "Recommends", "Suggests", "Breaks", "Conflicts", "Enhances", "Conffiles", "Filename", "Size",
	"MD5sum", "MSDOS-Filename", "Description", "Triggers-Pending", "Triggers-Awaited",
}

var relationFields = []string{
	"Replaces", "Provides", "Depends", "Pre-Depends", "Recommends", "Suggests", "Breaks", "Conflicts", "Enhances",
}

// StatusParagraph is the package's paragraph in /var/lib/dpkg/status after 'dpkg --unpack', with the blank line that
// ends it. control is the package's control member.
func StatusParagraph(control []byte, conffiles Conffiles) ([]byte, error) {
	p, err := ParseParagraph("control", control)
	if err != nil {
		return nil, err
	}
	op := "write status of " + orUnnamed(p.Get("Package"))
	for _, must := range []string{"Package", "Version", "Architecture"} {
		if p.Get(must) == "" {
			return nil, fault.New(fault.Input, op, "its control has no field %s", must).WithRemedy(malformed)
		}
	}
	for _, own := range []string{"Status", "Conffiles", "Config-Version", "Triggers-Pending", "Triggers-Awaited"} {
		if f := p.Field(own); f != nil {
			return nil, fault.New(fault.Input, op, "line %d: its control has the field %s, which is dpkg's own",
				f.Line, own).WithRemedy(malformed)
		}
	}
	var b bytes.Buffer
	for _, name := range statusFields {
		switch name {
		case "Status":
			b.WriteString("Status: install ok unpacked\n")
		case "Conffiles":
			writeConffiles(&b, conffiles)
		case "Filename", "Size", "MD5sum", "MSDOS-Filename": // of the archive, which dpkg forgets
		default:
			value, err := statusValue(name, p.Get(name))
			if err != nil {
				return nil, fault.New(fault.Input, op, "%s: %w", name, err).WithRemedy(malformed)
			}
			writeField(&b, name, value)
		}
	}
	for _, f := range p.Fields {
		if !slices.ContainsFunc(statusFields, func(known string) bool { return strings.EqualFold(known, f.Name) }) {
			writeField(&b, f.Name, f.Value)
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// statusValue spells a value as dpkg does; "" leaves the field out.
func statusValue(name, value string) (string, error) {
	switch {
	case name == "Essential" || name == "Protected" || name == "Multi-Arch":
		if value == "no" {
			return "", nil
		}
	case name == "Priority":
		return strings.ToLower(value), nil
	case name == "Version":
		v, err := ParseVersion(value)
		return v.String(), err
	case slices.Contains(relationFields, name):
		groups, err := ParseRelations(value)
		if err != nil {
			return "", err
		}
		all := make([]string, len(groups))
		for i, g := range groups {
			for j := range g {
				if v, err := ParseVersion(g[j].Version); err == nil {
					g[j].Version = v.String()
				}
			}
			all[i] = g.String()
		}
		return strings.Join(all, ", "), nil
	}
	return value, nil
}

func writeField(b *bytes.Buffer, name, value string) {
	if value == "" {
		return
	}
	first, rest, more := strings.Cut(value, "\n")
	b.WriteString(name + ":")
	if first != "" {
		b.WriteString(" " + first)
	}
	b.WriteByte('\n')
	for more {
		first, rest, more = strings.Cut(rest, "\n")
		b.WriteString(" " + first + "\n")
	}
}

func writeConffiles(b *bytes.Buffer, conffiles Conffiles) {
	if len(conffiles) == 0 {
		return
	}
	b.WriteString("Conffiles:\n")
	for _, c := range conffiles {
		b.WriteString(" /" + c.Path + " newconffile")
		if c.RemoveOnUpgrade {
			b.WriteString(" remove-on-upgrade")
		}
		b.WriteByte('\n')
	}
}

// InfoName is the stem of a package's files in /var/lib/dpkg/info: NAME, or NAME:ARCH where it is Multi-Arch: same
// and can be installed for several architectures at a time.
func InfoName(name, arch, multiarch string) string {
	if multiarch == "same" {
		return name + ":" + arch
	}
	return name
}

// InfoFile is a file below /var/lib/dpkg/info.
type InfoFile struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// maxInfoName is dpkg's bound on a control member's name (MAXCONTROLFILENAME).
const maxInfoName = 100

// InfoFiles are the files that an unpacked package has in /var/lib/dpkg/info, sorted by name. paths are the names of
// all its data members, in their order.
func InfoFiles(d *Deb, paths []string) ([]InfoFile, error) {
	p, err := ParseParagraph("control", d.Control()["control"])
	if err != nil {
		return nil, err
	}
	stem := InfoName(p.Get("Package"), p.Get("Architecture"), p.Get("Multi-Arch"))
	if err := checkName(p.Get("Package")); err != nil || !isArch(p.Get("Architecture")) {
		return nil, fault.New(fault.Input, "write info of "+d.name,
			"its control names the package %q of architecture %q (%v)",
			p.Get("Package"), p.Get("Architecture"), err)
	}
	all := []InfoFile{{stem + ".list", 0o644, ListFile(paths)}}
	for _, member := range slices.Sorted(maps.Keys(d.Control())) {
		switch {
		case member == "control" || member == "list" || strings.Contains(member, "."): // dpkg passes these over
			continue
		case len(member) > maxInfoName:
			return nil, fault.New(fault.Input, "write info of "+d.name,
				"its control member %q has a name of more than %d bytes", member, maxInfoName)
		}
		all = append(all, InfoFile{stem + "." + member, d.ControlMode(member), d.Control()[member]})
	}
	slices.SortFunc(all, func(a, b InfoFile) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// ListFile is the content of info/NAME.list: one absolute path a line, the root as "/.".
func ListFile(paths []string) []byte {
	var b bytes.Buffer
	for _, p := range paths {
		fmt.Fprintf(&b, "/%s\n", p)
	}
	return b.Bytes()
}
