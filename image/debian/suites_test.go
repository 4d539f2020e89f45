package debian

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// suiteIndex is testIndex for another suite.
func suiteIndex(tb testing.TB, suite string, lines ...string) *Index {
	tb.Helper()
	idx := testIndex(tb, lines...)
	idx.Name, idx.Suite = suite+"/Packages", suite
	for _, versions := range idx.Packages {
		for _, p := range versions {
			p.Suite, p.Index = suite, idx.Name
		}
	}
	return idx
}

// TestMerge: the highest version is the candidate, whichever suite has it; of the same version, the first suite's.
func TestMerge(t *testing.T) {
	idx := Merge(
		suiteIndex(t, "bookworm", "libc6 2.36-9; Essential: yes", "tzdata 2026a", "openssl 3.0.15-1; Depends: mta", "postfix 3; Provides: mta"),
		suiteIndex(t, "bookworm-updates", "tzdata 2026b", "openssl 3.0.15-1; Depends: absent"),
		suiteIndex(t, "bookworm-security", "libc6 2.36-9+deb12u1; Essential: yes", "postfix 4", "exim4 4; Provides: mta", "newcomer 1; Essential: yes"),
	)
	c, err := Resolve(idx, "amd64", []string{"openssl", "tzdata"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.Packages {
		got = append(got, p.Name+" "+p.Version+" "+p.Suite)
	}
	// postfix 3, which provides mta, is not the candidate of its name: apt does not take an older version for it.
	want := []string{"exim4 4 bookworm-security", "libc6 2.36-9+deb12u1 bookworm-security", "newcomer 1 bookworm-security",
		"openssl 3.0.15-1 bookworm", "tzdata 2026b bookworm-updates"}
	if !slices.Equal(got, want) {
		t.Errorf("chosen %q, want %q", got, want)
	}
	if c, err = Resolve(idx, "amd64", []string{"postfix=3"}, Options{}); err != nil || c.Find("postfix").Version != "3" {
		t.Errorf("a pinned older version: %v", err)
	}
	one := testIndex(t, "a 1")
	if Merge(one) != one {
		t.Error("one suite alone is copied")
	}
	_, err = Resolve(idx, "amd64", []string{"opensl"}, Options{})
	wantFault(t, err, "opensl", "bookworm, bookworm-updates, bookworm-security")
	bad := suiteIndex(t, "bookworm-security", "broken 1; Depends: x (= y z)")
	_, err = Resolve(Merge(one, bad), "amd64", []string{"broken"}, Options{})
	wantFault(t, err, "read bookworm-security/Packages: line 1: package broken: Depends")
}

func TestFindSourceInSuites(t *testing.T) {
	release, keys := newArchive(t, testPackages, testSources)
	a, err := Load(t.Context(), release, "bookworm", "amd64", keys)
	if err != nil {
		t.Fatal(err)
	}
	update, keys := newArchive(t, testPackages, strings.ReplaceAll(testSources, "2.10-3", "2.10-3+deb12u1"))
	b, err := Load(t.Context(), update, "bookworm", "amd64", keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version, want string
		from          *Archive
	}{
		{"", "2.10-3+deb12u1", b}, {"2.10-3", "2.10-3", a}, {"2.10-2", "2.10-2", a}, {"2.10-3+deb12u1", "2.10-3+deb12u1", b},
	} {
		s, from, err := FindSource(t.Context(), []*Archive{a, b}, "hello", c.version)
		if err != nil || s.Version != c.want || from != c.from {
			t.Errorf("%q: %+v, of the second suite: %v, %v", c.version, s, from == b, err)
		}
	}
	_, _, err = FindSource(t.Context(), []*Archive{a, b}, "hello", "3")
	wantFault(t, err, "hello 3 is not in bookworm, bookworm, which has 2.10-3, 2.10-2, 2.10-3+deb12u1, 2.10-2")
}

func TestCheckFresh(t *testing.T) {
	until := time.Date(2026, 7, 18, 10, 16, 37, 0, time.UTC)
	r := &Release{ValidUntil: until}
	if err := r.CheckFresh("x", until); err != nil {
		t.Errorf("at its last moment: %v", err)
	}
	wantFault(t, r.CheckFresh("trixie-updates", until.Add(time.Second)), "InRelease of trixie-updates",
		"it was valid until 2026-07-18 10:16:37 only", "the mirror is stale")
	if err := new(Release).CheckFresh("bookworm", until); err != nil {
		t.Errorf("a release without an end: %v", err)
	}
}

// TestKeyringsTogether: a host's keyring that is older than a suite is completed by the shipped one, and overrules it.
func TestKeyringsTogether(t *testing.T) {
	a, aKeys := newKey(t)
	_, bKeys := newKey(t)
	both := (&Keys{Source: "host", entities: aKeys.entities}).with(&Keys{Source: "shipped", entities: append(slices.Clone(bKeys.entities), aKeys.entities...)})
	if len(both.entities) != 2 || both.Source != "host and shipped" {
		t.Errorf("%d keys of %s", len(both.entities), both.Source)
	}
	if same := both.with(aKeys); len(same.entities) != 2 || same.Source != "host and shipped" {
		t.Errorf("%d keys of %s", len(same.entities), same.Source)
	}
	if both.entities[0].PrimaryKey.KeyId != a.PrimaryKey.KeyId {
		t.Error("the host's key was replaced")
	}
	shipped, err := ReadKeys("the shipped keyring", bytes.NewReader(shippedKeyring))
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, e := range shipped.entities {
		for name := range e.Identities {
			all += name + "\n"
		}
	}
	for _, name := range []string{"Archive Automatic Signing Key (13/trixie)", "Security Archive Automatic Signing Key (13/trixie)",
		"Stable Release Key (13/trixie)", "Archive Automatic Signing Key (12/bookworm)"} {
		if !strings.Contains(all, name) {
			t.Errorf("the shipped keyring has no %s", name)
		}
	}
}
