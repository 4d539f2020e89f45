package debian

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

// mustBeInput fails where an error blames anybody but those who wrote the bytes, or says more than a person reads.
func mustBeInput(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Input {
		t.Fatalf("not classified: %v", err)
	}
	if len(err.Error()) > 4<<10 {
		t.Fatalf("an error of %d bytes", len(err.Error()))
	}
}

// FuzzIndex: whatever a Packages file says, it is read or refused; and a closure that is found holds what each of its
// packages depends on, and no two versions of anything.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(testPackages), "hello")
	f.Add([]byte(stanzaText+"Pre-Depends: a | libc6\nProvides: b (= 2), c\nConflicts: libc6 (<< 1)\n"), "libc6=2.36-9")
	f.Fuzz(func(t *testing.T, text []byte, root string) {
		idx, err := ReadIndex("Packages", "x", bytes.NewReader(text))
		if err != nil {
			mustBeInput(t, err)
			return
		}
		for name, versions := range idx.Packages {
			for i, p := range versions {
				if p.Name != name || !safePath(p.Filename) || p.Size < 0 || checkSHA256(p.SHA256) != nil || checkName(name) != nil {
					t.Fatalf("unchecked package %+v", p)
				}
				if i > 0 && mustCompare(versions[i-1].Version, p.Version) < 0 {
					t.Fatalf("%s comes before %s", versions[i-1].Version, p.Version)
				}
			}
		}
		c, err := Resolve(idx, "amd64", append([]string{root}, slices.Sorted(maps.Keys(idx.Packages))...), Options{})
		if err != nil {
			mustBeInput(t, err)
			return
		}
		checkClosure(t, c)
	})
}

// checkClosure looks at a closure with none of the resolver's own means.
func checkClosure(t *testing.T, c *Closure) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range c.Packages {
		if seen[p.Name] || p.Arch != "amd64" && p.Arch != "all" {
			t.Fatalf("%s %s is chosen", p.Name, p.Arch)
		}
		seen[p.Name] = true
		for _, field := range []string{p.Package.PreDepends, p.Package.Depends} {
			groups, err := ParseRelations(field)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				if !slices.ContainsFunc(g, func(r Relation) bool { return heldBy(c, r) }) {
					t.Fatalf("%s needs %s, which is not there", p.Name, g)
				}
			}
		}
	}
}

func heldBy(c *Closure, r Relation) bool {
	for _, p := range c.Packages {
		if p.Name == r.Name && r.Accepts(p.Version) {
			return true
		}
		provides, _ := ParseRelations(p.Provides)
		for _, g := range provides {
			if g[0].Name == r.Name && (r.Op == "" || g[0].Version != "" && r.Accepts(g[0].Version)) {
				return true
			}
		}
	}
	return false
}

// FuzzSources: a Sources file is read or refused, and no file of it leaves the archive.
func FuzzSources(f *testing.F) {
	f.Add([]byte(testSources))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := readSources("Sources", bytes.NewReader(text))
		if err != nil {
			mustBeInput(t, err)
			return
		}
		for _, versions := range all {
			for _, s := range versions {
				if s.DSC().Name == "" || slices.ContainsFunc(s.Files, func(f FileHash) bool { return !safePath(s.Path(f.Name)) }) {
					t.Fatalf("unchecked source %+v", s)
				}
			}
		}
	})
}

// FuzzInRelease changes a release that is signed: what is still believed says the same as before.
func FuzzInRelease(f *testing.F) {
	e, keys := newKey(f)
	text := releaseText(map[string][]byte{"main/binary-amd64/Packages.xz": []byte("x"), "main/source/Sources.xz": []byte("y")})
	signed := sign(f, text, e)
	want, err := VerifyRelease("bookworm", signed, keys)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte(nil), 0, false)
	f.Add(60, []byte("Codename: trixie\n"), 0, false)
	f.Add(0, []byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSuite: x\n"), 0, false)
	f.Add(0, []byte(nil), len(signed)/2, false)
	f.Add(0, []byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -----\n-----BEGIN PGP SIGNATURE-----\n\n=AAAA\n-----END PGP SIGNATURE-----\n"), 0, true)
	f.Fuzz(func(t *testing.T, at int, insert []byte, cut int, alone bool) {
		changed := slices.Clone(signed)
		if at = max(0, min(at, len(changed))); !alone {
			changed = slices.Concat(changed[:at], insert, changed[min(len(changed), at+max(cut, 0)):])
		} else {
			changed = insert
		}
		got, err := VerifyRelease("bookworm", changed, keys)
		if err != nil {
			mustBeInput(t, err)
			return
		}
		if !maps.Equal(got.Files, want.Files) || got.Codename != want.Codename || !got.Date.Equal(want.Date) || len(got.Signers) == 0 {
			t.Fatalf("another release is believed: %+v", got)
		}
	})
}

// FuzzStatus: the paragraph that dpkg will read is one paragraph, of this package, unpacked and not configured,
// whatever the package's control says.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(testControl), []byte("/etc/hello.conf\n"))
	f.Add([]byte("Package: a\nVersion: 0:1\nArchitecture: all\nX-Odd:\n .\n Status: install ok installed\nDepends: b(>=1)|c ,d\n"), []byte("remove-on-upgrade /etc/x\n"))
	f.Fuzz(func(t *testing.T, control, conffiles []byte) {
		files, err := ParseConffiles("x", conffiles)
		if err != nil {
			mustBeInput(t, err)
			return
		}
		text, err := StatusParagraph(control, files)
		if err != nil {
			mustBeInput(t, err)
			return
		}
		before, err := ParseParagraph("control", control)
		if err != nil {
			t.Fatal(err)
		}
		r := NewParagraphReader("status", bytes.NewReader(text))
		p, err := r.Next()
		if err != nil {
			t.Fatalf("dpkg could not read it: %v\n%q", err, text)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("a second paragraph came in: %q", text)
		}
		if p.Get("Status") != "install ok unpacked" || p.Get("Package") != before.Get("Package") || p.Get("Architecture") != before.Get("Architecture") {
			t.Fatalf("status is %q", text)
		}
		if c, err := CompareVersions(p.Get("Version"), before.Get("Version")); err != nil || c != 0 {
			t.Fatalf("version is %q (%v)", p.Get("Version"), err)
		}
		if n := strings.Count(p.Get("Conffiles"), "\n"); n != len(files) {
			t.Fatalf("%d conffiles of %d", n, len(files))
		}
	})
}

// FuzzConffiles: each path is clean and below the root, and is found again under its interim name.
func FuzzConffiles(f *testing.F) {
	f.Add([]byte("/etc/a\n/etc/b c\n\nremove-on-upgrade /etc/d\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ParseConffiles("x", text)
		if err != nil {
			mustBeInput(t, err)
			return
		}
		for _, c := range all {
			if clean, err := cleanPath(c.Path); err != nil || clean != c.Path || strings.HasPrefix(c.Path, "/") {
				t.Fatalf("%q is not clean", c.Path)
			}
			if name := all.UnpackedName(c.Path); !c.RemoveOnUpgrade && name != c.Path+conffileSuffix {
				t.Fatalf("%q is unpacked as %q", c.Path, name)
			}
		}
	})
}
