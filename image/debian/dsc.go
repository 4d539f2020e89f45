package debian

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/belljar/belljar/fault"
)

// DSC is a source package's control file (dsc(5)).
type DSC struct {
	Name            string // of the file, for errors
	Source, Version string
	Format          string
	Files           []FileHash // from Checksums-Sha256; without the .dsc itself
}

// ParseDSC reads a .dsc file. It is clear-signed by a maintainer, whose key need not be in any keyring: the signature
// is taken off and not verified. What proves the file is its hash, which the archive's Sources names and the chain up
// to InRelease signs; the caller must have checked that hash.
func ParseDSC(name string, data []byte) (*DSC, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		block, rest := clearsign.Decode(data)
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fault.New(fault.Input, "read "+name, "it is not one complete clear-signed message")
		}
		data = block.Plaintext
	}
	p, err := ParseParagraph(name, data)
	if err != nil {
		return nil, err
	}
	for _, must := range []string{"Format", "Source", "Version", "Checksums-Sha256"} {
		if p.Get(must) == "" {
			return nil, fault.New(fault.Input, "read "+name, "it has no field %s", must)
		}
	}
	d := &DSC{Name: name, Source: p.Get("Source"), Version: p.Get("Version"), Format: p.Get("Format")}
	if err := checkName(d.Source); err != nil {
		return nil, fault.New(fault.Input, "read "+name, "Source: %w", err)
	}
	if _, err := ParseVersion(d.Version); err != nil {
		return nil, fault.New(fault.Input, "read "+name, "Version: %w", err)
	}
	if d.Files, err = parseHashTable(p.Field("Checksums-Sha256")); err != nil {
		return nil, fault.New(fault.Input, "read "+name, "%w", err)
	}
	for _, f := range d.Files {
		if strings.Contains(f.Name, "/") {
			return nil, fault.New(fault.Input, "read "+name, "the file %q is a path, want a bare name", f.Name)
		}
	}
	return d, nil
}

// Check compares the files that the .dsc lists with those at hand, as a lock or an index has them: each must be there,
// with the same size and SHA-256. A .dsc among the files at hand is passed over.
func (d *DSC) Check(have []FileHash) error {
	fail := func(format string, args ...any) error {
		return fault.New(fault.Input, "check "+d.Name, format, args...).
			WithRemedy("Lock the spec again: the .dsc and its files are not of one source package.")
	}
	for _, want := range d.Files {
		i := slices.IndexFunc(have, func(f FileHash) bool { return f.Name == want.Name })
		switch {
		case i < 0:
			return fail("it lists %s, which is not among the locked files", want.Name)
		case have[i].Size != want.Size:
			return fail("%s has %d bytes, the .dsc says %d", want.Name, have[i].Size, want.Size)
		case have[i].SHA256 != want.SHA256:
			return fail("%s has SHA-256 %s, the .dsc says %s", want.Name, have[i].SHA256, want.SHA256)
		}
	}
	for _, f := range have {
		named := slices.ContainsFunc(d.Files, func(w FileHash) bool { return w.Name == f.Name })
		if !named && !strings.HasSuffix(f.Name, ".dsc") {
			return fail("%s is locked, but the .dsc does not list it", f.Name)
		}
	}
	return nil
}

// Component is an additional upstream tarball of a source package, unpacked into the folder of its name.
type Component struct {
	Name string
	File FileHash
}

// Layout says which file of a source package plays which part (dpkg-source(1)). Parts that are absent have no name.
//
// 3.0 (quilt): Orig is unpacked, each component into its folder, then Debian, whose debian/patches/series is applied.
// 3.0 (native): Orig is all. 1.0: Orig is all, or Diff is applied to it.
type Layout struct {
	Format     string
	Native     bool
	Orig       FileHash
	Components []Component
	Debian     FileHash // the .debian.tar of 3.0 (quilt)
	Diff       FileHash // the .diff.gz of 1.0
	Signatures []FileHash
}

// SourceFiles sorts the files of a .dsc into their parts.
func SourceFiles(d *DSC) (*Layout, error) {
	fail := func(format string, args ...any) (*Layout, error) {
		return nil, fault.New(fault.Input, "read "+d.Name, format, args...)
	}
	v, err := ParseVersion(d.Version)
	if err != nil {
		return fail("%w", err)
	}
	v.Epoch = 0 // file names carry no epoch
	full := strings.TrimPrefix(v.String(), "0:")
	v.Revision = ""
	upstream := strings.TrimPrefix(v.String(), "0:")
	l := &Layout{Format: d.Format}
	for _, f := range d.Files {
		if strings.HasSuffix(f.Name, ".asc") {
			l.Signatures = append(l.Signatures, f)
			continue
		}
		if err := l.place(f, d.Source+"_"+upstream, d.Source+"_"+full); err != nil {
			return fail("%w", err)
		}
	}
	slices.SortFunc(l.Components, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	missing := func(part string) (*Layout, error) { return fail("format %s without %s", d.Format, part) }
	switch d.Format {
	case "3.0 (quilt)":
		switch {
		case l.Orig.Name == "" || l.Native:
			return missing("an .orig.tar")
		case l.Debian.Name == "":
			return missing("a .debian.tar")
		}
	case "3.0 (native)":
		if !l.Native {
			return missing("a tarball of its own name and version")
		}
	case "1.0":
		if l.Orig.Name == "" {
			return missing("a tarball")
		}
	default:
		return fail("its format is %q, want 3.0 (quilt), 3.0 (native) or 1.0", d.Format)
	}
	return l, nil
}

// componentLetters may stand in the name of an additional upstream tarball (dpkg-source(1)).
const componentLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// place puts one file in its part, by what its name says after SOURCE_VERSION.
func (l *Layout) place(f FileHash, upstream, full string) error {
	put := func(part *FileHash) error {
		if part.Name != "" {
			return fmt.Errorf("%s and %s play the same part", part.Name, f.Name)
		}
		*part = f
		return nil
	}
	if rest, ok := strings.CutPrefix(f.Name, upstream+".orig"); ok {
		if component, ok := strings.CutPrefix(rest, "-"); ok {
			name, ext, _ := strings.Cut(component, ".")
			if isTar("."+ext) && name != "" && strings.Trim(name, componentLetters) == "" {
				l.Components = append(l.Components, Component{name, f})
				return nil
			}
		} else if isTar(rest) {
			return put(&l.Orig)
		}
	}
	if rest, ok := strings.CutPrefix(f.Name, full); ok {
		debian, isDebian := strings.CutPrefix(rest, ".debian")
		switch {
		case isDebian && isTar(debian):
			return put(&l.Debian)
		case rest == ".diff.gz":
			return put(&l.Diff)
		case isTar(rest):
			l.Native = true
			return put(&l.Orig)
		}
	}
	return fmt.Errorf("%s plays no known part, want names as %s.orig.tar.xz, %s.debian.tar.xz", f.Name, upstream, full)
}

func isTar(ext string) bool {
	return slices.Contains([]string{".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzma"}, ext)
}
