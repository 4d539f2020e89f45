package debian

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// testIndex makes an index of lines 'name version | Field: value | …'.
func testIndex(tb testing.TB, lines ...string) *Index {
	tb.Helper()
	var b strings.Builder
	for i, line := range lines {
		parts := strings.Split(line, ";")
		name, version, _ := strings.Cut(strings.TrimSpace(parts[0]), " ")
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\nFilename: pool/%s_%d.deb\nSize: 1\nSHA256: %s\n", name, version, name, i, zeros)
		arch := "Architecture: amd64"
		for _, p := range parts[1:] {
			if p = strings.TrimSpace(p); strings.HasPrefix(p, "Architecture") {
				arch = p
				continue
			}
			b.WriteString(p + "\n")
		}
		b.WriteString(arch + "\n\n")
	}
	idx, err := ReadIndex("bookworm/Packages", "bookworm", strings.NewReader(b.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return idx
}

func names(c *Closure) string {
	var all []string
	for _, p := range c.Packages {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}

func TestResolve(t *testing.T) {
	idx := testIndex(t,
		"base 1; Essential: yes; Pre-Depends: awk",
		"mawk 1; Provides: awk; Priority: required", "gawk 1; Provides: awk; Priority: optional",
		"init 1; Depends: usrmerge | usr-is-merged", "usrmerge 1; Depends: perl", "usr-is-merged 1", "perl 5",
		"make 4; Depends: libc6 (>= 2.30)", "make 3", "libc6 2.36; Multi-Arch: same", "doc 1; Architecture: all",
		"debconf 2; Provides: debconf-2.0", "cdebconf 2; Provides: debconf-2.0",
		"asks 1; Depends: debconf-2.0 | debconf", "chooses 1; Depends: x | cdebconf, debconf-2.0",
		"virtual 1; Depends: lib (>= 2)", "libv1 1; Provides: lib (= 1)", "libv2 1; Provides: lib (= 2)", "libv0 1; Provides: lib",
		"any 1; Depends: perl:any (>= 5)", "loop-a 1; Depends: loop-b", "loop-b 1; Depends: loop-a",
		"multi 1; Depends: two | one", "one 1", "two 1", "wants-one 1; Depends: one",
		"deep 1; Depends: deeper, wants-one", "deeper 1; Depends: multi", "rival 1", "friend 1", "enemy 1; Conflicts: rival-api",
		"rival-too 1; Provides: rival-api; Conflicts: enemy", "picks 1; Depends: rival-too | friend", "hopeless 1; Depends: absent",
		"hopes 1; Depends: hopeless | friend", "wants-gawk 1; Depends: gawk",
		"self 1; Provides: mta; Conflicts: mta", "foreign 9; Architecture: i386", "elsewhere 1; Depends: perl [i386] | one")
	for _, c := range []struct {
		name, roots string
		opts        Options
		want        string
	}{
		{"essential, and the provider of greatest priority", "", Options{}, "base mawk"},
		{"dependency", "make", Options{NoEssential: true}, "libc6 make"},
		{"pinned", "make=3", Options{NoEssential: true}, "make"},
		{"architecture all", "doc", Options{NoEssential: true}, "doc"},
		{"usr-is-merged before usrmerge", "init", Options{NoEssential: true}, "init usr-is-merged"},
		{"provider by name order", "asks", Options{NoEssential: true}, "asks cdebconf"},
		{"chosen already wins", "asks debconf", Options{NoEssential: true}, "asks debconf"},
		{"preferred", "asks", Options{NoEssential: true, Prefer: []string{"debconf"}}, "asks debconf"},
		{"alternative that does not exist", "chooses", Options{NoEssential: true}, "cdebconf chooses"},
		{"versioned Provides", "virtual", Options{NoEssential: true}, "libv2 virtual"},
		{"qualifier any", "any", Options{NoEssential: true}, "any perl"},
		{"circle", "loop-a", Options{NoEssential: true}, "loop-a loop-b"},
		{"first alternative", "multi", Options{NoEssential: true}, "multi two"},
		{"one root after the other, as apt does it", "multi wants-one", Options{NoEssential: true}, "multi one two wants-one"},
		{"all roots are chosen first", "multi one", Options{NoEssential: true}, "multi one"},
		{"depth first", "deep", Options{NoEssential: true}, "deep deeper multi one two wants-one"},
		{"what conflicts is passed over", "enemy picks", Options{NoEssential: true}, "enemy friend picks"},
		{"what cannot be met is passed over", "hopes", Options{NoEssential: true}, "friend hopes"},
		{"the Essential's choices come first", "wants-gawk", Options{}, "base gawk mawk wants-gawk"},
		{"conflict with what it provides itself", "self", Options{NoEssential: true}, "self"},
		{"a virtual package stands for its one provider", "rival-api rival-too", Options{NoEssential: true}, "rival-too"},
		{"restricted to another architecture", "elsewhere", Options{NoEssential: true}, "elsewhere one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Resolve(idx, "amd64", strings.Fields(c.roots), c.opts)
			if err != nil || names(got) != c.want {
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}

	c, err := Resolve(idx, "amd64", []string{"make"}, Options{Origins: map[string]string{"make": "seabios.yaml"}})
	if err != nil {
		t.Fatal(err)
	}
	if why := c.Find("libc6").Why; why != "seabios.yaml → make → libc6" {
		t.Errorf("why is %q", why)
	}
	if p := c.Find("base"); !slices.Equal(p.PreDepends, []string{"mawk"}) || p.Why != "Essential → base" || c.Find("x") != nil {
		t.Errorf("base is %+v", p)
	}
	if p := c.Find("make"); !slices.Equal(p.Depends, []string{"libc6"}) || p.Version != "4" {
		t.Errorf("make is %+v", p)
	}
}

// TestResolveDeterministic: neither the order of the roots nor that of the index changes the closure.
func TestResolveDeterministic(t *testing.T) {
	lines := []string{"base 1; Essential: yes; Pre-Depends: awk", "mawk 1; Provides: awk", "gawk 1; Provides: awk",
		"a 1; Depends: x | y", "b 1; Depends: y | x", "c 1; Depends: z", "z 1; Depends: y", "x 1", "y 1", "d 1; Depends: v", "p 1; Provides: v", "q 1; Provides: v"}
	roots := []string{"a", "b", "c", "d"}
	want := ""
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		c, err := Resolve(testIndex(t, lines...), "amd64", roots, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = names(c)
		}
		if got := names(c); got != want || got != "a b base c d gawk p x y z" {
			t.Fatalf("%s, before it was %s", got, want)
		}
		r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		r.Shuffle(len(roots), func(i, j int) { roots[i], roots[j] = roots[j], roots[i] })
	}
}

func TestResolveBad(t *testing.T) {
	idx := testIndex(t,
		"make 4; Depends: libc6 (>= 2.40)", "libc6 2.36-9", "outer 1; Depends: make", "foreign 1; Architecture: i386",
		"either 1; Depends: gone | libc6 (<< 2)", "greeter-a 1; Provides: greeter, hi", "greeter-b 1; Provides: hi", "strict 1; Depends: greeter (>= 2)",
		"left 1; Conflicts: right (<< 2)", "right 1", "broken 1; Breaks: greeter", "malformed 1; Depends: a b",
		"pinned 2", "pinned 1", "newer 1; Depends: pinned (>= 2)", "python3-setuptools 66", "qualified 1; Depends: libc6:i386")
	for _, c := range []struct {
		name, roots string
		says        []string
	}{
		{"too old", "outer", []string{"make needs libc6 (>= 2.40), but bookworm has libc6 2.36-9: wanted by seabios.yaml → outer → make"}},
		{"no alternative", "either", []string{"either needs gone | libc6 (<< 2), but bookworm has no gone; bookworm has libc6 2.36-9"}},
		{"unversioned Provides", "strict", []string{"greeter (>= 2)", "greeter-a"}},
		{"unknown", "python3-setuptool", []string{`bookworm has no package "python3-setuptool"`, "Did you mean python3-setuptools?", "seabios.yaml"}},
		{"nothing near", "zzzzzzz", []string{`"zzzzzzz"`, "main"}},
		{"virtual root", "hi", []string{"hi is a virtual package", "greeter-a, greeter-b"}},
		{"unknown version", "make=5", []string{"make=5 is not in bookworm, which has 4"}},
		{"other architecture", "foreign", []string{"bookworm has foreign for i386, not for amd64", "seabios.yaml"}},
		{"conflict", "left right", []string{"left 1 says Conflicts: right (<< 2), but right 1 is needed too", "seabios.yaml → right"}},
		{"breaks a provider", "broken greeter-a", []string{"broken 1 says Breaks: greeter, but greeter-a 1"}},
		{"malformed", "malformed", []string{"read bookworm/Packages: line ", "malformed: Depends: relation \"a b\""}},
		{"pin in the way", "newer pinned=1", []string{"newer needs pinned (>= 2), but pinned is pinned to 1"}},
		{"two pins", "pinned=1 pinned=2", []string{"pinned is pinned to both 1 and 2"}},
		{"foreign qualifier", "qualified", []string{"libc6 is of another architecture than amd64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			roots := strings.Fields(c.roots)
			origins := map[string]string{}
			for _, r := range roots {
				origins[r] = "seabios.yaml"
			}
			got, err := Resolve(idx, "amd64", roots, Options{Origins: origins})
			if err == nil {
				t.Fatalf("resolved to %s", names(got))
			}
			wantFault(t, err, c.says...)
		})
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"make", "make", 0}, {"make", "mkae", 1}, {"kitten", "sitting", 3}, {"gcc", "g++", 2}} {
		if got := editDistance(c.a, c.b); got != c.want || editDistance(c.b, c.a) != c.want {
			t.Errorf("%s, %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
