package debian

import (
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	cases := []struct {
		name, a, b string
		want       int
	}{
		{"same", "1.0-1", "1.0-1", 0},
		{"zero epoch", "0:1.0", "1.0", 0},
		{"epoch wins", "1:0.1", "2.0", 1},
		{"no revision is revision 0", "1.0", "1.0-0", 0},
		{"leading zeros", "1.01", "1.1", 0},
		{"numbers, not text", "1.10", "1.9", 1},
		{"tilde before the end", "1.0~rc1", "1.0", -1},
		{"tildes", "1.0~~", "1.0~~a", -1},
		{"tilde order of deb-version(7): ~~ ~~a ~ (end) a", "1.0~", "1.0~~a", 1},
		{"end before a letter", "1.0", "1.0a", -1},
		{"letters before others", "1.0a", "1.0+", -1},
		{"revision", "1.0-1", "1.0-1.1", -1},
		{"security update", "1.0-1+deb12u1", "1.0-1", 1},
		{"binary rebuild", "5.2.15-2+b13", "5.2.15-2+b2", 1},
		{"backport", "1.0-1~bpo12+1", "1.0-1", -1},
		{"last hyphen splits", "1.0-rc-1", "1.0-rc-2", -1},
		{"long numbers", "1.99999999999999999999999", "1.100000000000000000000000", -1},
		{"digits against letters", "1.2.3", "1.2.a", -1},
		{"dfsg", "1.2.13.dfsg-1", "1.2.13-1", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, err := CompareVersions(c.a, c.b); err != nil || got != c.want {
				t.Errorf("%s ? %s is %d (%v), want %d", c.a, c.b, got, err, c.want)
			}
			if got, err := CompareVersions(c.b, c.a); err != nil || got != -c.want {
				t.Errorf("%s ? %s is %d (%v), want %d", c.b, c.a, got, err, -c.want)
			}
		})
	}
}

func TestParseVersionBad(t *testing.T) {
	for name, c := range map[string]struct{ version, says string }{
		"empty":           {"", "no upstream"},
		"empty epoch":     {":1", "epoch"},
		"word as epoch":   {"a:1", "epoch"},
		"huge epoch":      {"4294967296:1", "epoch"},
		"negative epoch":  {"-1:1", "epoch"},
		"empty revision":  {"1.0-", "want a revision"},
		"only a revision": {"-1", "no upstream"},
		"letter first":    {"v1.0", "want a digit"},
		"blank":           {"1.0 1", "does not belong"},
		"revision":        {"1.0-1_2", "does not belong in its revision"},
		"non-ASCII":       {"1.0é", "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := ParseVersion(c.version); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q is %v, %v; want an error that says %q", c.version, v, err, c.says)
			}
		})
	}
}

// FuzzVersion: the order is antisymmetric and transitive, and a version's text means the same when read again.
func FuzzVersion(f *testing.F) {
	f.Add("1.0~rc1-1", "1.0-1", "1:0.1")
	f.Add("1.2.13.dfsg-1", "1.02.13-0", "0:1.2.13")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var vs []Version
		for _, s := range []string{a, b, c} {
			v, err := ParseVersion(s)
			if err != nil {
				return
			}
			again, err := ParseVersion(v.String())
			if err != nil || again.Compare(v) != 0 {
				t.Fatalf("%q reads as %q, which is %v, %v", s, v, again, err)
			}
			if v.Compare(v) != 0 {
				t.Fatalf("%s differs from itself", v)
			}
			vs = append(vs, v)
		}
		for _, x := range vs {
			for _, y := range vs {
				checkAgainstModel(t, x.String(), y.String())
				if x.Compare(y) != -y.Compare(x) {
					t.Fatalf("%s ? %s: %d and %d", x, y, x.Compare(y), y.Compare(x))
				}
				for _, z := range vs {
					if x.Compare(y) <= 0 && y.Compare(z) <= 0 && x.Compare(z) > 0 {
						t.Fatalf("%s <= %s <= %s, yet %s > %s", x, y, z, x, z)
					}
				}
			}
		}
	})
}
