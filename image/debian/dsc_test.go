package debian

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

func dscText(format, version string, files ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Format: %s\nSource: hello\nVersion: %s\nChecksums-Sha256:\n", format, version)
	for i, f := range files {
		fmt.Fprintf(&b, " %064x %d %s\n", i, i, f)
	}
	return b.String()
}

func TestSourceFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"quilt", dscText("3.0 (quilt)", "1:2.0-1", "hello_2.0.orig.tar.xz", "hello_2.0-1.debian.tar.xz", "hello_2.0.orig.tar.xz.asc"),
			"false hello_2.0.orig.tar.xz [] hello_2.0-1.debian.tar.xz  1"},
		{"components", dscText("3.0 (quilt)", "2.0-1", "hello_2.0.orig-zlib.tar.gz", "hello_2.0.orig.tar.xz", "hello_2.0.orig-doc-html.tar.xz", "hello_2.0-1.debian.tar.xz"),
			"false hello_2.0.orig.tar.xz [doc-html zlib] hello_2.0-1.debian.tar.xz  0"},
		{"native", dscText("3.0 (native)", "2.0", "hello_2.0.tar.xz"), "true hello_2.0.tar.xz []   0"},
		{"old", dscText("1.0", "2.0-1", "hello_2.0.orig.tar.gz", "hello_2.0-1.diff.gz"), "false hello_2.0.orig.tar.gz []  hello_2.0-1.diff.gz 0"},
		{"old native", dscText("1.0", "2.0", "hello_2.0.tar.gz"), "true hello_2.0.tar.gz []   0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := ParseDSC("hello.dsc", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			l, err := SourceFiles(d)
			if err != nil {
				t.Fatal(err)
			}
			components := []string{}
			for _, x := range l.Components {
				components = append(components, x.Name)
			}
			got := fmt.Sprint(l.Native, " ", l.Orig.Name, " ", components, " ", l.Debian.Name, " ", l.Diff.Name, " ", len(l.Signatures))
			if got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDSCBad(t *testing.T) {
	quilt := "3.0 (quilt)"
	for _, c := range []struct{ name, text, says string }{
		{"no orig", dscText(quilt, "2.0-1", "hello_2.0-1.debian.tar.xz"), "without an .orig.tar"},
		{"no debian", dscText(quilt, "2.0-1", "hello_2.0.orig.tar.xz"), "without a .debian.tar"},
		{"two origs", dscText(quilt, "2.0-1", "hello_2.0.orig.tar.xz", "hello_2.0.orig.tar.gz"), "play the same part"},
		{"file of another package", dscText(quilt, "2.0-1", "other_2.0.orig.tar.xz"), "other_2.0.orig.tar.xz plays no known part"},
		{"unknown format", dscText("3.0 (git)", "2.0", "hello_2.0.tar.gz"), "3.0 (git)"},
		{"path", dscText(quilt, "2.0-1", "a/hello_2.0.orig.tar.xz"), "want a bare name"},
		{"climb", dscText(quilt, "2.0-1", "../hello_2.0.orig.tar.xz"), "clean relative path"},
		{"no hashes", "Format: 1.0\nSource: hello\nVersion: 1\n", "Checksums-Sha256"},
		{"short line", "Format: 1.0\nSource: hello\nVersion: 1\nChecksums-Sha256:\n 12 hello\n", "line 5"},
		{"cut signature", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nFormat: 1.0\n", "not one complete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := ParseDSC("hello.dsc", []byte(c.text))
			if err == nil {
				_, err = SourceFiles(d)
			}
			wantFault(t, err, "hello.dsc", c.says)
		})
	}
}

// TestRealDSC reads SeaBIOS' own .dsc, which is clear-signed.
func TestRealDSC(t *testing.T) {
	data, err := os.ReadFile("testdata/seabios_1.16.2-1.dsc")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDSC("seabios_1.16.2-1.dsc", data)
	if err != nil {
		t.Fatal(err)
	}
	l, err := SourceFiles(d)
	if err != nil || l.Orig.SHA256 != "efa8d529442ad168056f94ac6666b1b3543c62ff7af6d9e020561f4d0e32f959" || l.Debian.Size != 8700 {
		t.Errorf("%+v, %v", l, err)
	}
	have := append([]FileHash{{Name: "seabios_1.16.2-1.dsc"}}, d.Files...)
	if err := d.Check(have); err != nil {
		t.Error(err)
	}
	wantFault(t, d.Check(have[:2]), "is not among the locked files")
	wantFault(t, d.Check(append(have, FileHash{Name: "x.tar"})), "x.tar is locked")
	for i, change := range []func(*FileHash){func(f *FileHash) { f.Size++ }, func(f *FileHash) { f.SHA256 = zeros }} {
		changed := append([]FileHash(nil), have...)
		change(&changed[1])
		wantFault(t, d.Check(changed), changed[1].Name, []string{"bytes", "SHA-256"}[i])
	}
}

func FuzzDSC(f *testing.F) {
	f.Add([]byte(dscText("3.0 (quilt)", "1:2.0-1", "hello_2.0.orig.tar.xz", "hello_2.0-1.debian.tar.xz")))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDSC("x.dsc", data)
		if err == nil {
			_, err = SourceFiles(d)
		}
		if err != nil && fault.KindOf(err) != fault.Input {
			t.Fatalf("not classified: %v", err)
		}
	})
}
