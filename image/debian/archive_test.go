package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/belljar/belljar/fault"
)

// signedAt is when the tests' releases are signed; the key made below expires a day later, long before today.
var signedAt = time.Date(2023, 6, 10, 12, 0, 0, 0, time.UTC)

// newKey makes a key whose signing is done by a subkey, as Debian's is.
func newKey(tb testing.TB) (*openpgp.Entity, *Keys) {
	tb.Helper()
	config := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 24 * 3600, Time: func() time.Time { return signedAt.Add(-time.Hour) },
	}
	e, err := openpgp.NewEntity("Test Archive", "", "archive@example.org", config)
	if err != nil {
		tb.Fatal(err)
	}
	if err := e.AddSigningSubkey(config); err != nil {
		tb.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		tb.Fatal(err)
	}
	keys, err := ReadKeys("test.gpg", &public)
	if err != nil {
		tb.Fatal(err)
	}
	return e, keys
}

func sign(tb testing.TB, text string, signers ...*openpgp.Entity) []byte {
	tb.Helper()
	var keys []*packet.PrivateKey
	for _, s := range signers {
		key, ok := s.SigningKey(signedAt)
		if !ok {
			tb.Fatal("no signing key")
		}
		keys = append(keys, key.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, keys, &packet.Config{Time: func() time.Time { return signedAt }})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

// memoryArchive is an archive in memory, served by path.
type memoryArchive map[string][]byte

func (m memoryArchive) Get(_ context.Context, path, _ string, _ int64) (io.ReadCloser, error) {
	data, ok := m[path]
	if !ok {
		return nil, fault.New(fault.Host, "get "+path, "%w", fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func releaseText(files map[string][]byte) string {
	var b strings.Builder
	b.WriteString("Suite: oldstable\nCodename: bookworm\nVersion: 12.15\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n" +
		"Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nArchitectures: all amd64 i386\nComponents: main\nSHA256:\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, " %x %d %s\n", sha256.Sum256(files[name]), len(files[name]), name)
	}
	return b.String()
}

// newArchive signs a suite with these indexes.
func newArchive(tb testing.TB, packages, sources string) (memoryArchive, *Keys) {
	tb.Helper()
	e, keys := newKey(tb)
	files := map[string][]byte{
		"main/binary-amd64/Packages.xz": compress(tb, "xz", []byte(packages)),
		"main/source/Sources.xz":        compress(tb, "xz", []byte(sources)),
	}
	m := memoryArchive{"dists/bookworm/InRelease": sign(tb, releaseText(files), e)}
	for name, data := range files {
		m["dists/bookworm/"+name] = data
	}
	return m, keys
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

const testPackages = "Package: hello\nVersion: 2.10-3\nArchitecture: amd64\nDepends: libc6 (>= 2.34)\nProvides: greeter (= 2), hi\n" +
	"Filename: pool/main/h/hello/hello_2.10-3_amd64.deb\nSize: 53080\nSHA256: " + zeros + "\n\n" +
	"Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nMulti-Arch: same\nFilename: pool/main/g/libc6.deb\nSize: 7\nSHA256: " + zeros + "\n"

const testSources = "Package: hello\nVersion: 2.10-2\nFormat: 3.0 (quilt)\nDirectory: pool/main/h/hello\nChecksums-Sha256:\n " +
	zeros + " 12 hello_2.10-2.dsc\n\n" +
	"Package: hello\nVersion: 2.10-3\nFormat: 3.0 (quilt)\nDirectory: pool/main/h/hello\nChecksums-Sha256:\n " +
	zeros + " 12 hello_2.10-3.dsc\n " + zeros + " 345 hello_2.10.orig.tar.gz\n"

func TestLoad(t *testing.T) {
	m, keys := newArchive(t, testPackages, testSources)
	a, err := Load(t.Context(), m, "bookworm", "amd64", keys)
	if err != nil {
		t.Fatal(err)
	}
	p := a.Index.Packages["hello"][0]
	if p.Size != 53080 || p.Filename != "pool/main/h/hello/hello_2.10-3_amd64.deb" || p.Depends != "libc6 (>= 2.34)" || p.SHA256 != zeros {
		t.Errorf("hello is %+v", p)
	}
	r := a.Release
	if r.Codename != "bookworm" || r.Suite != "oldstable" || r.ValidUntil.Day() != 18 || r.Date.Year() != 2026 || len(r.Signers) != 1 {
		t.Errorf("release is %+v", r)
	}
	s, err := a.FindSource(t.Context(), "hello", "")
	if err != nil || s.Version != "2.10-3" || s.DSC().Name != "hello_2.10-3.dsc" || s.Path("x") != "pool/main/h/hello/x" || s.Files[1].Size != 345 {
		t.Errorf("source is %+v, %v", s, err)
	}
	if s, err := a.FindSource(t.Context(), "hello", "2.10-2"); err != nil || s.Version != "2.10-2" {
		t.Errorf("source is %+v, %v", s, err)
	}
	_, err = a.FindSource(t.Context(), "hello", "9")
	wantFault(t, err, "hello 9", "2.10-3, 2.10-2")
	_, err = a.FindSource(t.Context(), "helo", "")
	wantFault(t, err, "\"helo\"", "Did you mean hello?")
	_, err = Load(t.Context(), m, "bookworm", "riscv64", keys)
	wantFault(t, err, "InRelease of bookworm", "riscv64", "amd64")
}

func TestLoadBad(t *testing.T) {
	good, keys := newArchive(t, testPackages, testSources)
	_, otherKeys := newKey(t)
	const inRelease, packages = "dists/bookworm/InRelease", "dists/bookworm/main/binary-amd64/Packages.xz"
	change := func(path string, f func([]byte) []byte) memoryArchive {
		m := maps.Clone(good)
		m[path] = f(bytes.Clone(m[path]))
		return m
	}
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(with), 1) }
	}
	cases := []struct {
		name string
		m    memoryArchive
		keys *Keys
		says []string
	}{
		{"tampered release", change(inRelease, replace("Version: 12.15", "Version: 12.16")), keys,
			[]string{"InRelease of bookworm: signature does not match"}},
		{"unknown key", good, otherKeys, []string{"it is signed by keys ", "test.gpg holds none", "debian-archive-keyring"}},
		{"text before", change(inRelease, func(b []byte) []byte { return append([]byte("Codename: evil\n\n"), b...) }), keys,
			[]string{"want a clear-signed message"}},
		{"text after", change(inRelease, func(b []byte) []byte { return append(b, "evil\n"...) }), keys, []string{"nobody signed"}},
		{"cut release", change(inRelease, func(b []byte) []byte { return b[:len(b)/2] }), keys, []string{"not one complete"}},
		{"portal's page", change(inRelease, func([]byte) []byte { return []byte("<html>log in</html>") }), keys, []string{"<html>", "proxy"}},
		{"wrong index", change(packages, func([]byte) []byte { return good["dists/bookworm/main/source/Sources.xz"] }), keys,
			[]string{"main/binary-amd64/Packages", "not the one that InRelease names"}},
		{"cut index", change(packages, func(b []byte) []byte { return b[:len(b)-5] }), keys, []string{"not the one that InRelease names"}},
		{"long index", change(packages, func(b []byte) []byte { return append(b, 0) }), keys, []string{"more than"}},
		{"flipped index", change(packages, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), keys, []string{"not the one that InRelease names"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(t.Context(), c.m, "bookworm", "amd64", c.keys)
			wantFault(t, err, c.says...)
		})
	}
	_, err := VerifyRelease("trixie", good[inRelease], keys)
	wantFault(t, err, "InRelease of trixie", "bookworm")
	if _, err := Load(t.Context(), memoryArchive{}, "bookworm", "amd64", keys); !errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) != fault.Host {
		t.Errorf("a getter's failure is %v, want it handed on", err)
	}
}

// TestReleaseSignatures: one known signer is enough beside unknown ones, and one bad signature of a known key is too many.
func TestReleaseSignatures(t *testing.T) {
	text := releaseText(nil)
	a, aKeys := newKey(t)
	b, bKeys := newKey(t)
	if r, err := VerifyRelease("bookworm", sign(t, text, a, b), bKeys); err != nil || len(r.Signers) != 1 {
		t.Errorf("a second signer that is known: %+v, %v", r, err)
	}
	both := &Keys{Source: "both", entities: append(slices.Clone(aKeys.entities), bKeys.entities...)}
	if r, err := VerifyRelease("bookworm", sign(t, text, a, b), both); err != nil || len(r.Signers) != 2 {
		t.Errorf("two known signers: %+v, %v", r, err)
	}
	signed := sign(t, text, a)
	if _, err := VerifyRelease("bookworm", signed, &Keys{Source: "a", entities: openpgp.EntityList{a}}); err != nil {
		t.Errorf("before the revocation: %v", err)
	}
	if err := a.RevokeKey(packet.KeyCompromised, "stolen", nil); err != nil {
		t.Fatal(err)
	}
	_, err := VerifyRelease("bookworm", signed, &Keys{Source: "a", entities: openpgp.EntityList{a}})
	wantFault(t, err, "InRelease of bookworm", "revoked")
}

// TestRealInRelease verifies a signature that Debian made: testdata/InRelease is bookworm-updates' of November 2026. Its
// keys expire in time, and the test must hold all the same.
func TestRealInRelease(t *testing.T) {
	signed, err := os.ReadFile("testdata/InRelease")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys("the shipped keyring", bytes.NewReader(shippedKeyring))
	if err != nil {
		t.Fatal(err)
	}
	r, err := VerifyRelease("bookworm-updates", signed, keys)
	if err != nil {
		t.Fatal(err)
	}
	if r.Codename != "bookworm-updates" || len(r.Signers) == 0 || len(r.Files) < 100 {
		t.Errorf("release is %s, signers %v, %d files", r.Codename, r.Signers, len(r.Files))
	}
	bad := bytes.Replace(signed, []byte("Origin: Debian\n"), []byte("Origin: Debiam\n"), 1)
	_, err = VerifyRelease("bookworm-updates", bad, keys)
	wantFault(t, err, "InRelease of bookworm-updates: signature does not match")
	if _, err := Keyring(); err != nil {
		t.Error(err)
	}
}

func TestReadIndexBad(t *testing.T) {
	for _, c := range []struct{ name, old, with, says string }{
		{"no Filename", "Filename: pool/main/g/libc6.deb\n", "", "line 10: package libc6 has no field Filename"},
		{"no Size", "Size: 7\n", "", "line 10: package libc6 has no field Size"},
		{"no SHA256", "Size: 7\nSHA256: " + zeros + "\n", "Size: 7\n", "line 10: package libc6 has no field SHA256"},
		{"no Package", "Package: libc6\n", "", "line 10: package (unnamed) has no field Package"},
		{"short SHA256", "Size: 7\nSHA256: 0", "Size: 7\nSHA256: ", "line 16: package libc6: SHA256: the SHA-256 is"},
		{"negative Size", "Size: 7", "Size: -7", "line 15: package libc6: Size"},
		{"climbing Filename", "pool/main/g/libc6.deb", "../../etc/passwd", "line 14: package libc6: Filename"},
		{"absolute Filename", "pool/main/g/libc6.deb", "/etc/passwd", "line 14: package libc6: Filename"},
		{"bad Version", "2.36-9", "v2", "line 11: package libc6: Version"},
		{"bad name", "Package: libc6", "Package: Lib/c6", "line 10: package Lib/c6: Package"},
		{"bad Provides", "greeter (= 2)", "greeter (>= 2)", "line 1: package hello: Provides"},
		{"no package at all", testPackages, "", "it lists no package"},
		{"twice", "Package: libc6\nVersion: 2.36-9", "Package: hello\nVersion: 2.10-3", "line 10: package hello 2.10-3 comes twice, first on line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(testPackages, c.old, c.with, 1)
			if text == testPackages {
				t.Fatal("the case changes nothing")
			}
			_, err := ReadIndex("bookworm/Packages", "bookworm", strings.NewReader(text))
			wantFault(t, err, "bookworm/Packages", c.says)
		})
	}
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(releaseText(map[string][]byte{"main/binary-amd64/Packages.xz": []byte("x")})))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRelease("InRelease of x", text)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("not classified: %v", err)
			}
			return
		}
		for name, h := range r.Files {
			if !safePath(name) || checkSHA256(h.SHA256) != nil || h.Size < 0 {
				t.Fatalf("unchecked file %+v", h)
			}
		}
	})
}
