package debian

import (
	"strings"
	"testing"
)

func TestParseRelations(t *testing.T) {
	for _, c := range []struct{ name, field, want string }{
		{"empty", "", ""},
		{"one", "libc6", "libc6"},
		{"versions", "libc6 (>= 2.36), a(<<1),b ( = 1:2-3 )", "libc6 (>= 2.36), a (<< 1), b (= 1:2-3)"},
		{"obsolete operators", "a (< 1), b (> 2)", "a (<= 1), b (>= 2)"},
		{"alternatives", "debconf (>= 0.5) | debconf-2.0", "debconf (>= 0.5) | debconf-2.0"},
		{"qualifier", "python3:any (>= 3.11~), gcc:i386", "python3:any (>= 3.11~), gcc:i386"},
		{"restrictions", "a (>= 1) [amd64 !i386] <!nocheck> <cross stage1>", "a (>= 1) [amd64 !i386] <!nocheck> <cross stage1>"},
		{"over lines", "a,\n b,\n c", "a, b, c"},
		{"trailing comma", "a, b,", "a, b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			groups, err := ParseRelations(c.field)
			if err != nil || joinRelations(groups) != c.want {
				t.Errorf("%q, %v; want %q", joinRelations(groups), err, c.want)
			}
		})
	}
}

func joinRelations(groups []Alternatives) string {
	var all []string
	for _, g := range groups {
		all = append(all, g.String())
	}
	return strings.Join(all, ", ")
}

func TestParseRelationsBad(t *testing.T) {
	for field, says := range map[string]string{
		"a,,b":              "before a comma",
		"a | ":              "no package name",
		"Upper":             "lower-case",
		"a (~ 1)":           "operator",
		"a (>= )":           "no upstream",
		"a (>= 1":           "no closing",
		"a b":               "does not belong here",
		"a (>= 1) (<< 2)":   "a second",
		"a [amd64] (>= 1)":  "does not belong here",
		"a []":              "empty",
		"a <>":              "empty",
		"a: (>= 1)":         "qualifier",
		"a [amd64] [i386]":  "a second",
		"${shlibs:Depends}": "lower-case",
	} {
		t.Run(field, func(t *testing.T) {
			if groups, err := ParseRelations(field); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, %v; want an error that says %q", groups, err, says)
			}
		})
	}
}

func TestRelationAccepts(t *testing.T) {
	for _, c := range []struct {
		relation, version string
		want              bool
	}{
		{"a", "1", true}, {"a (>= 1)", "1", true}, {"a (>= 1)", "1~", false}, {"a (>> 1)", "1", false}, {"a (>> 1)", "1+b1", true},
		{"a (= 1)", "1-0", true}, {"a (= 1)", "1-1", false}, {"a (<= 1)", "1", true}, {"a (<< 1)", "1~", true}, {"a (<< 1)", "1", false},
		{"a (>= 1)", "nonsense", false},
	} {
		groups, err := ParseRelations(c.relation)
		if err != nil {
			t.Fatal(err)
		}
		if got := groups[0][0].Accepts(c.version); got != c.want {
			t.Errorf("%s with %s: %v", c.relation, c.version, got)
		}
	}
}

func TestRelationRestrictions(t *testing.T) {
	for _, c := range []struct {
		relation string
		want     bool
	}{
		{"a", true}, {"a [amd64]", true}, {"a [i386 amd64]", true}, {"a [i386]", false}, {"a [!amd64]", false}, {"a [!i386]", true},
		{"a [linux-any]", true}, {"a [any-amd64]", true}, {"a [any-i386]", false}, {"a [hurd-any]", false}, {"a [any]", true},
		{"a <!nocheck>", false}, {"a <nocheck>", true}, {"a <cross>", false}, {"a <!cross>", true},
		{"a <cross> <nocheck>", true}, {"a <cross nocheck>", false},
	} {
		groups, err := ParseRelations(c.relation)
		if err != nil {
			t.Fatal(err)
		}
		r := groups[0][0]
		if got := r.AppliesTo("amd64") && r.UnderProfiles("nocheck"); got != c.want {
			t.Errorf("%s on amd64 under nocheck: %v", c.relation, got)
		}
	}
}

// FuzzRelation: what is accepted is written in a form that reads the same.
func FuzzRelation(f *testing.F) {
	f.Add("libc6:any (>= 2.36) [amd64 !i386] <!nocheck> | b, c (<< 1:2~)")
	f.Fuzz(func(t *testing.T, field string) {
		groups, err := ParseRelations(field)
		if err != nil {
			return
		}
		text := joinRelations(groups)
		again, err := ParseRelations(text)
		if err != nil || joinRelations(again) != text {
			t.Fatalf("%q becomes %q, which reads as %q, %v", field, text, joinRelations(again), err)
		}
	})
}
