package debian

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// stanzaText is a good stanza, from which a case takes away or changes lines.
const stanzaText = `Package: libc6
Version: 2.36-9
Architecture: amd64
Filename: pool/main/g/libc6.deb
Size: 7
SHA256: ` + zeros + `
`

// Every field that a lock needs: without it, and with it wrong, the error names file, line, package and field.
func TestPackagesFields(t *testing.T) {
	for field, bad := range map[string]map[string]string{
		"Package": {
			"Lib/c6": `want a lower-case letter or a digit`, "lib/c6": `has '/' in it, want lower-case letters, digits and any of + . -`,
			"../../etc": "begins with", "lib\xe9": "has 'é' in it",
		},
		"Version":      {"v2": "want a digit", "2.36-": "want a revision", "a:2": "its epoch", "2/../3": "does not belong"},
		"Architecture": {"AMD64": `it is "AMD64", want an architecture`, "../x": "want an architecture"},
		"Filename": {
			"/etc/passwd": "want a clean relative path", "pool/../../x": "want a clean relative path", "pool//x": "want a clean",
			"pool/x?y": "want a clean", `pool\x`: "want a clean", "..": "want a clean",
		},
		"Size": {
			"-7": "want a number of bytes", "7 kB": "want a number", "9999999999999999999999": "want a number", "0x10": "want a number", "+7": "want a number",
		},
		"SHA256": {zeros[1:]: "want 64 lower-case hex digits", strings.Repeat("G", 64): "want 64", strings.Repeat("A", 64): "want 64 lower-case"},
	} {
		lines := strings.SplitAfter(stanzaText, "\n")
		for i, line := range lines {
			if !strings.HasPrefix(line, field+":") {
				continue
			}
			t.Run("no "+field, func(t *testing.T) {
				text := strings.Join(lines[:i], "") + strings.Join(lines[i+1:], "")
				name := "libc6"
				if field == "Package" {
					name = "(unnamed)"
				}
				_, err := ReadIndex("bookworm/main/binary-amd64/Packages", "bookworm", strings.NewReader("\n\n"+text))
				wantFault(t, err, "read bookworm/main/binary-amd64/Packages: line 3: package "+name+" has no field "+field)
			})
			for value, says := range bad {
				t.Run(field+" "+value, func(t *testing.T) {
					text := strings.Join(lines[:i], "") + field + ": " + value + "\n" + strings.Join(lines[i+1:], "")
					_, err := ReadIndex("bookworm/Packages", "bookworm", strings.NewReader(text))
					wantFault(t, err, fmt.Sprintf("read bookworm/Packages: line %d: package ", i+1), ": "+field+": ", says)
				})
			}
		}
	}
}

func TestPackagesBadStanzas(t *testing.T) {
	other := strings.ReplaceAll(stanzaText, "amd64", "i386")
	for _, c := range []struct{ name, text, says string }{
		{"twice", stanzaText + "\n" + stanzaText, "line 8: package libc6 2.36-9 comes twice, first on line 1"},
		{"field twice", stanzaText + "Size: 8\n", "line 7: the field Size comes twice in one paragraph, first on line 5"},
		{"cut in a line", stanzaText + "\nPackage: x\nVers", `line 9: it reads "Vers", want 'Field: value'`},
		{"cut after a line", stanzaText + "\nPackage: x\n", "line 8: package x has no field Version"},
		{"a page of HTML", "<html>\n<body>", `line 1: it reads "<html>", want 'Field: value'`},
		{"nothing", "", "it lists no package"},
		{"blank lines", "\n \n\t\n", "it lists no package"},
		{"NUL", strings.Replace(stanzaText, "pool", "po\x00ol", 1), "line 4: it has a NUL byte"},
		{"long line", stanzaText + "Description: " + strings.Repeat("x", 2*maxLine), "line 7: it is longer than 4194304 bytes"},
		{"long paragraph", stanzaText + "X:\n" + strings.Repeat(" "+strings.Repeat("y", 1<<20)+"\n", 17), "the paragraph is longer than 16777216 bytes"},
		{"Installed-Size", stanzaText + "Installed-Size: big\n", "line 7: package libc6: Installed-Size"},
		{"Provides", stanzaText + "Provides: a | b\n", "line 1: package libc6: Provides"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadIndex("bookworm/Packages", "bookworm", strings.NewReader(c.text))
			wantFault(t, err, "read bookworm/Packages: ", c.says)
		})
	}
	// A stanza of another architecture is read and never chosen.
	idx, err := ReadIndex("bookworm/Packages", "bookworm", strings.NewReader(stanzaText+"\n"+other+"\n"+strings.ReplaceAll(other, "libc6", "only32")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(idx, "i386", []string{"libc6"}, Options{})
	if err != nil || c.Find("libc6").Arch != "i386" {
		t.Errorf("got %v, %v", c, err)
	}
	_, err = Resolve(idx, "amd64", []string{"only32"}, Options{})
	wantFault(t, err, "resolve packages: bookworm has only32 for i386, not for amd64")
}

// Whatever the mirror serves under the name of an index, no byte of it is used unless the signed hash holds.
func TestIndexNotTheSignedOne(t *testing.T) {
	good, keys := newArchive(t, testPackages, testSources)
	const path = "dists/bookworm/main/binary-amd64/Packages.xz"
	evil := strings.Replace(testPackages, "hello", "hellu", 1)
	for name, data := range map[string][]byte{
		"empty":               nil,
		"another text":        compress(t, "xz", []byte(evil)),
		"good, then more":     append(compress(t, "xz", []byte(testPackages)), compress(t, "xz", []byte("\n"+evil))...),
		"good, cut":           good[path][:len(good[path])/2],
		"a bomb":              compress(t, "xz", make([]byte, 32<<20)),
		"a dictionary of GiB": xzWithDictionary(t, []byte(testPackages), 40),
		"not xz":              []byte(testPackages),
	} {
		t.Run(name, func(t *testing.T) {
			m := maps.Clone(good)
			m[path] = data
			_, err := Load(t.Context(), m, "bookworm", "amd64", keys)
			wantFault(t, err, "bookworm/main/binary-amd64/Packages", "not the one that InRelease names", "want "+fmt.Sprint(len(good[path])),
				"Try again in some minutes")
			if _, err := Load(t.Context(), good, "bookworm", "amd64", keys); err != nil {
				t.Errorf("the good one after it: %v", err)
			}
		})
	}
}

// An InRelease that is cut anywhere is never taken, and the error says what is to be done.
func TestInReleaseCutAnywhere(t *testing.T) {
	e, keys := newKey(t)
	signed := sign(t, releaseText(map[string][]byte{"main/binary-amd64/Packages.xz": []byte("x")}), e)
	if _, err := VerifyRelease("bookworm", signed, keys); err != nil {
		t.Fatal(err)
	}
	for n := range len(signed) - 2 { // the last two are the ends of lines
		_, err := VerifyRelease("bookworm", signed[:n], keys)
		wantFault(t, err, "InRelease of bookworm")
		if t.Failed() {
			t.Fatalf("cut at %d of %d", n, len(signed))
		}
	}
}

func TestReleaseFields(t *testing.T) {
	good := releaseText(map[string][]byte{"main/binary-amd64/Packages.xz": []byte("x")})
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	for _, c := range []struct{ name, old, with, says string }{
		{"no Date", "Date: Sat, 11 Jul 2026 10:16:37 UTC\n", "", "it has no field Date"},
		{"no SHA256", "SHA256:\n " + hash + " 1 main/binary-amd64/Packages.xz\n", "", "it has no field SHA256: nothing ties the indexes to the signature"},
		{"bad Date", "Date: Sat, 11", "Date: yesterday, 11", `line 4: Date is "yesterday, 11 Jul 2026 10:16:37 UTC", want a date as in`},
		{"bad Valid-Until", "Sat, 18 Jul", "18 Jul", "line 5: Valid-Until is"},
		{"climbing name", "main/binary", "../main/binary", "line 9: SHA256: the name is"},
		{"absolute name", "main/binary", "/main/binary", "line 9: SHA256: the name is"},
		{"size", " 1 main", " one main", `line 9: SHA256: the size is "one", want a number of bytes`},
		{"hash", hash, hash[1:], "line 9: SHA256: the SHA-256 is"},
		{"words", " 1 main", " main", "line 9: SHA256: it reads"},
		{"name twice", "SHA256:\n", "SHA256:\n " + zeros + " 1 main/binary-amd64/Packages.xz\n", "line 10: SHA256: the file main/binary-amd64/Packages.xz comes twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.with, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := parseRelease("InRelease of bookworm", []byte(text))
			wantFault(t, err, "InRelease of bookworm", c.says)
		})
	}
}

// What two packages that do not go together cost the user: both names, and for each the chain that wants it.
func TestPackagesThatDoNotGoTogether(t *testing.T) {
	idx := testIndex(t,
		"gcc 12; Depends: binutils", "binutils 2; Depends: old-ld", "old-ld 1", "lld 14; Conflicts: old-ld", "clang 14; Depends: lld",
		"breaker 1; Breaks: old-ld (<< 2)",
		"pre-a 1; Pre-Depends: pre-b", "pre-b 1; Pre-Depends: pre-c", "pre-c 1; Pre-Depends: pre-a", "wants-pre 1; Depends: pre-b",
		"pre-self 1; Provides: me; Pre-Depends: me", "half-a 1; Pre-Depends: half-b", "half-b 1; Depends: half-a",
		"deep 1; Depends: deeper", "deeper 1; Pre-Depends: nowhere (>= 3) | gone")
	origins := map[string]string{"gcc": "guest debian-bookworm-x86_64", "clang": "stage build", "breaker": "stage test", "deep": "stage build"}
	for _, c := range []struct {
		roots string
		says  []string
	}{
		{"gcc clang", []string{
			"resolve packages: lld 14 says Conflicts: old-ld, but old-ld 1 is needed too",
			"stage build → clang → lld", "guest debian-bookworm-x86_64 → gcc → binutils → old-ld", "Leave one of the two out",
		}},
		{"gcc breaker", []string{
			"breaker 1 says Breaks: old-ld (<< 2), but old-ld 1 is needed too", "stage test → breaker", "gcc → binutils → old-ld",
		}},
		{"wants-pre", []string{
			"pre-a → pre-b → pre-c → pre-a: these packages Pre-Depend on each other in a circle, so that none can be configured first",
			"wants-pre → pre-b → pre-c → pre-a", "in bookworm they cannot be installed",
		}},
		{"deep", []string{
			"deeper needs nowhere (>= 3) | gone, but bookworm has no nowhere; bookworm has no gone: wanted by stage build → deep → deeper",
		}},
	} {
		t.Run(c.roots, func(t *testing.T) {
			_, err := Resolve(idx, "amd64", strings.Fields(c.roots), Options{Origins: origins})
			wantFault(t, err, c.says...)
		})
	}
	for _, roots := range []string{"half-a", "pre-self", "gcc"} { // circles that dpkg breaks, and no circle
		if _, err := Resolve(idx, "amd64", strings.Fields(roots), Options{}); err != nil {
			t.Errorf("%s: %v", roots, err)
		}
	}
}

// within fails where f takes longer than a busy machine of two cores needs: all of these took hours, or the memory of
// the host, where work grew with the square of the input.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("it took %v, want less than %v", took, limit)
	} else {
		t.Logf("%v", took.Round(time.Millisecond))
	}
}

const patient = 20 * time.Second

// lines is an endless text of a line and its number, cut off at n.
func numbered(n int, format string) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
			if b.Len() > 64<<10 {
				if _, err := io.WriteString(pw, b.String()); err != nil {
					return
				}
				b.Reset()
			}
		}
		_, err := io.WriteString(pw, b.String())
		pw.CloseWithError(err)
	}()
	return pr
}

const stanzaTail = "Architecture: all\nFilename: pool/x.deb\nSize: 1\nSHA256: " + zeros + "\n"

func TestWorkGrowsWithTheInputOnly(t *testing.T) {
	t.Run("stanzas of one name", func(t *testing.T) {
		within(t, patient, func() {
			idx, err := ReadIndex("Packages", "x", numbered(200000, "Package: a\nVersion: %d\n"+stanzaTail+"\n"))
			if err != nil || len(idx.Packages["a"]) != 200000 || idx.Packages["a"][0].Version != "199999" {
				t.Error(err)
			}
		})
	})
	t.Run("relations in one field", func(t *testing.T) {
		within(t, patient, func() {
			groups, err := ParseRelations(strings.Repeat("a,", 1e6) + "b (>= 1)")
			if err != nil || len(groups) != 1e6+1 {
				t.Error(len(groups), err)
			}
			groups, err = ParseRelations(strings.Repeat("a (<< 1:2.3-4~)|", 1e6) + "b")
			if err != nil || len(groups[0]) != 1e6+1 {
				t.Error(len(groups), err)
			}
		})
	})
	t.Run("providers of one name", func(t *testing.T) {
		within(t, patient, func() {
			idx, err := ReadIndex("Packages", "x", numbered(100000, "Package: p%d\nVersion: 1\nProvides: v\nDepends: v\n"+stanzaTail+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Resolve(idx, "amd64", []string{"p7"}, Options{})
			if err != nil || len(c.Packages) != 1 {
				t.Error(c, err)
			}
		})
	})
	t.Run("one long chain", func(t *testing.T) {
		within(t, patient, func() {
			var b strings.Builder
			const n = 100000
			for i := range n {
				fmt.Fprintf(&b, "Package: p%d\nVersion: 1\nPre-Depends: p%d\n%s\n", i, min(i+1, n-1), stanzaTail)
			}
			idx, err := ReadIndex("Packages", "x", strings.NewReader(b.String()))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Resolve(idx, "amd64", []string{"p0"}, Options{Origins: map[string]string{"p0": "spec"}})
			if err != nil || len(c.Packages) != n {
				t.Fatal(err)
			}
			why := c.Find("p99999").Why
			if !strings.HasPrefix(why, "spec → p0 → p1 → ") || !strings.HasSuffix(why, " → … → p99998 → p99999") || len(why) > 1000 {
				t.Errorf("why is %q", why)
			}
			if why := c.Find("p39").Why; strings.Contains(why, "…") || strings.Count(why, "→") != 40 {
				t.Errorf("why is %q", why)
			}
		})
	})
	t.Run("one long circle", func(t *testing.T) {
		within(t, patient, func() {
			var b strings.Builder
			const n = 100000
			for i := range n {
				fmt.Fprintf(&b, "Package: p%d\nVersion: 1\nPre-Depends: p%d\n%s\n", i, (i+1)%n, stanzaTail)
			}
			idx, err := ReadIndex("Packages", "x", strings.NewReader(b.String()))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Resolve(idx, "amd64", []string{"p0"}, Options{})
			wantFault(t, err, "p0 → p1 → p2 → p3 → p4 → p5 → p6 → p7 → p8 → p9 → p10 → … → p0: these packages")
		})
	})
	t.Run("fields of one paragraph", func(t *testing.T) {
		within(t, patient, func() {
			_, err := NewParagraphReader("control", numbered(1e6, "F%d: x\n")).Next()
			wantFault(t, err, "read control: line 1001: it has more than 1000 fields")
		})
	})
	t.Run("paragraphs of fields that nobody asked for", func(t *testing.T) {
		within(t, patient, func() {
			p, err := NewParagraphReader("control", numbered(1e6, "F%d: x\n"), "Package").Next()
			if err != nil || len(p.Fields) != 0 {
				t.Error(p, err)
			}
		})
	})
	t.Run("continuation lines", func(t *testing.T) {
		within(t, patient, func() {
			p, err := NewParagraphReader("control", io.MultiReader(strings.NewReader("Files:\n"), numbered(1e6, " %d\n"))).Next()
			if err != nil || strings.Count(p.Get("Files"), "\n") != 1e6 {
				t.Error(err)
			}
		})
	})
	t.Run("files of a release", func(t *testing.T) {
		within(t, patient, func() {
			text, err := io.ReadAll(numbered(100000, " "+zeros+" 1 main/%d\n"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := parseRelease("x", append([]byte("Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n"), text...))
			if err != nil || len(r.Files) != 100000 {
				t.Error(err)
			}
		})
	})
	t.Run("long versions", func(t *testing.T) {
		within(t, patient, func() {
			a, b := strings.Repeat("1.0~", 1e6)+"a", strings.Repeat("1.00~", 1e6)+"b"
			if c, err := CompareVersions("1"+a, "1"+b); err != nil || c >= 0 {
				t.Error(c, err)
			}
		})
	})
}

// modelCompare is Debian Policy 5.6.12 once more, written from its text alone: each part is cut into pieces that are
// compared by keys whose order as bytes is the order of the Policy.
func modelCompare(a, b string) int {
	ea, ua, ra := modelSplit(a)
	eb, ub, rb := modelSplit(b)
	for _, p := range [][2]string{{ea, eb}, {ua, ub}, {ra, rb}} {
		// What is missing counts as an empty piece and the number zero, again and again.
		const nothing = "\x0100000000"
		x, y := modelKey(p[0])+strings.Repeat(nothing, len(p[1])), modelKey(p[1])+strings.Repeat(nothing, len(p[0]))
		if c := strings.Compare(x[:min(len(x), len(y))], y[:min(len(x), len(y))]); c != 0 {
			return c
		}
	}
	return 0
}

// modelSplit: 'the portion before the first colon', 'the last hyphen'; 'zero is assumed if omitted'.
func modelSplit(s string) (epoch, upstream, revision string) {
	epoch, revision = "0", "0"
	if i := strings.Index(s, ":"); i >= 0 {
		epoch, s = s[:i], s[i+1:]
	}
	if i := strings.LastIndex(s, "-"); i >= 0 {
		s, revision = s[:i], s[i+1:]
	}
	return epoch, s, revision
}

// modelKey writes a part so that byte order is version order: of the characters that are no digits, tilde sorts before
// the end of the piece, that before letters, and letters before all else; a number is its length and its digits.
func modelKey(s string) string {
	var key []byte
	for s != "" {
		for s != "" && (s[0] < '0' || s[0] > '9') {
			switch c := s[0]; {
			case c == '~':
				key = append(key, 0)
			case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
				key = append(key, 2, c)
			default:
				key = append(key, 3, c)
			}
			s = s[1:]
		}
		key = append(key, 1) // the end of the piece
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		number := strings.TrimLeft(s[:n], "0")
		key = append(key, fmt.Sprintf("%08d%s", len(number), number)...)
		s = s[n:]
	}
	return string(key)
}

func checkAgainstModel(t *testing.T, a, b string) {
	t.Helper()
	got, err := CompareVersions(a, b)
	if err != nil {
		return
	}
	if want := modelCompare(a, b); got != want {
		t.Fatalf("%q ? %q is %d, by the model %d", a, b, got, want)
	}
}

// TestVersionsAgainstModel compares two hundred thousand pairs that differ little.
func TestVersionsAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const letters = "0012~+.-:aZ9"
	for range 200000 {
		a := "1"
		for range r.IntN(8) {
			a += string(letters[r.IntN(len(letters))])
		}
		b := []byte(a)
		for range 1 + r.IntN(2) {
			b[r.IntN(len(b))] = letters[r.IntN(len(letters))]
		}
		checkAgainstModel(t, a, string(b)+[]string{"", "", "~", "0", "-0", "a"}[r.IntN(6)])
	}
}
