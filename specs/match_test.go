package specs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

// change alters a fresh copy of the shipped seabios.
type change struct {
	name    string
	alter   func(l *Loaded)
	want    string // of Matches; "" if the lock still fits
	resolve bool
}

func TestMatches(t *testing.T) {
	const x86, i686 = "debian-bookworm-x86_64", "debian-bookworm-i686"
	for _, tc := range []change{
		{"nothing", func(*Loaded) {}, "", false},
		{"description", func(l *Loaded) { l.Spec.Description = "other"; l.Guests[x86].Description = "other" }, "", false},
		{"script", func(l *Loaded) { l.Spec.Stages[0].Script += "\n" }, "stages.build.script changed", false},
		{"env added", func(l *Loaded) { l.Spec.Stages[0].Env = map[string]string{"A": "b"} }, "stages.build.env added", false},
		{"timeout", func(l *Loaded) { l.Spec.Stages[0].Timeout = 0 }, "stages.build.timeout removed", false},
		{"packages", func(l *Loaded) { l.Spec.Stages[0].Packages = nil }, "stages.build.packages removed", true},
		{"stage added", func(l *Loaded) { l.Spec.Stages = append(l.Spec.Stages, Stage{Name: "a.b", Script: "x"}) }, "stages.a.b added", false},
		{"stage with packages added", func(l *Loaded) {
			l.Spec.Stages = append(l.Spec.Stages, Stage{Name: "two", Packages: []string{"gcc"}})
		}, "stages.two added", true},
		{"stage renamed", func(l *Loaded) { l.Spec.Stages[0].Name = "make" }, "stages.build removed; stages.make added", true},
		{"smoke added", func(l *Loaded) { l.Spec.Smoke = append(l.Spec.Smoke, Smoke{Name: "two"}) }, "smoke.two added", false},
		{"smoke order", func(l *Loaded) { s := l.Spec.Smoke; s[0], s[1] = s[1], s[0] }, "smoke changed", false},
		{"smoke pattern", func(l *Loaded) { l.Spec.Smoke[1].Expect[0] = "x" }, "smoke.q35 changed", false},
		{"artifacts", func(l *Loaded) { l.Spec.Artifacts[0].Name = "x" }, "artifacts changed", false},
		{"source version", func(l *Loaded) { l.Spec.Sources[0].Version = "1.16.3-1" }, "sources.seabios changed", true},
		{"source added", func(l *Loaded) { l.Spec.Sources = append(l.Spec.Sources, Source{Name: "two"}) }, "sources.two added", true},
		{"guest removed", func(l *Loaded) { l.names = l.names[:1]; delete(l.Guests, i686) }, "guests." + i686 + " removed", false},
		{"guest added", func(l *Loaded) { l.names = append(l.names, "pc"); l.Guests["pc"] = &Guest{Name: "pc"} }, "guests.pc added", true},
		{"guest order", func(l *Loaded) { n := l.names; n[0], n[1] = n[1], n[0] }, "guests changed", false},
		{"guest packages", func(l *Loaded) { l.Guests[x86].Packages = nil }, "guests." + x86 + ".packages changed", true},
		{"guest suite", func(l *Loaded) { l.Guests[x86].Suite = "trixie" }, "guests." + x86 + ".suite changed", true},
		{"guest security", func(l *Loaded) { l.Guests[x86].Security = true }, "guests." + x86 + ".security added", true},
		{"guest snapshot", func(l *Loaded) { l.Guests[x86].Snapshot = "20260101T000000Z" }, "guests." + x86 + ".snapshot added", true},
		{"guest machine", func(l *Loaded) { l.Guests[x86].Machine, l.Guests[x86].CPUs = "pc-q35-7.2", 4 },
			"guests." + x86 + ".cpus changed; guests." + x86 + ".machine changed", false},
		{"name", func(l *Loaded) { l.Spec.Name = "other" }, "it was made for the spec roms/seabios", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := loadSeabios(t)
			lock := sampleLock(t, l)
			tc.alter(l)
			err := lock.Matches(l)
			if tc.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
			} else {
				e := fault.Chain(err)
				if len(e) == 0 || e[0].Kind != fault.Input || !strings.HasSuffix(err.Error(), " as it stands: "+tc.want) {
					t.Errorf("\n got %v\nwant … as it stands: %s", err, tc.want)
				} else if want := "make it anew: belljar lock " + l.Spec.Name; e[0].Remedy != want {
					t.Errorf("remedy %q, want %q", e[0].Remedy, want)
				}
			}
			if got := NeedsResolve(lock, l); got != tc.resolve {
				t.Errorf("NeedsResolve says %v", got)
			}
			if tc.resolve {
				return
			}
			stamped := Restamp(lock, l)
			if err := stamped.Matches(l); err != nil {
				t.Errorf("restamped: %v", err)
			}
			if _, err := ParseLock("x", stamped.Marshal()); err != nil {
				t.Errorf("restamped: %v", report(err))
			}
			for name, g := range stamped.Guests {
				if spec := l.Guests[name]; g.Machine != spec.Machine || g.CPU != spec.CPU || !g.Clock.Equal(spec.Clock) {
					t.Errorf("%s keeps the old machine: %+v", name, g)
				}
			}
		})
	}
}

// TestMatchesSeesABadMerge: a digest that fits does not excuse contents that lack something.
func TestMatchesSeesABadMerge(t *testing.T) {
	l := loadSeabios(t)
	lock := sampleLock(t, l)
	delete(lock.Guests, "debian-bookworm-i686")
	lock.Sources = nil
	err := lock.Matches(l)
	if want := "check lock: the lock lacks guest debian-bookworm-i686, source seabios"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !NeedsResolve(lock, l) || !NeedsResolve(nil, l) {
		t.Error("what is missing would never be resolved")
	}
}

func TestDiff(t *testing.T) {
	old := sampleLock(t, loadSeabios(t))
	now := sampleLock(t, loadSeabios(t))
	if d := Diff(old, now); len(d) != 0 {
		t.Errorf("of equals: %q", d)
	}
	g := now.Guests["debian-bookworm-x86_64"]
	g.Packages[0].Version, g.Packages[0].SHA256 = "1:1.3", sha(40)
	g.Packages[1].SHA256 = sha(41)
	g.Packages[2].Name, g.Packages[2].Version = "linux-image-6.1.0-41-amd64", "6.1.160-1"
	g.Packages = append(g.Packages, Package{Name: "gcc", Version: "4:12.2.0-3"})
	g.Kernel.Release = "6.1.0-41-amd64"
	g.Release.Snapshot = "20261001T000000Z"
	now.Sources[0].Version = "1.16.2-2"
	delete(now.Guests, "debian-bookworm-i686")
	want := []string{
		"source seabios 1.16.2-1 → 1.16.2-2",
		"debian-bookworm-i686: removed",
		"debian-bookworm-x86_64: snapshot 20260905T143000Z → 20261001T000000Z",
		"debian-bookworm-x86_64: kernel linux-image-6.1.0-40-amd64 6.1.153-1 → linux-image-6.1.0-41-amd64 6.1.160-1",
		"debian-bookworm-x86_64: package base-files 12.4: the same version, other contents",
		"debian-bookworm-x86_64: package gcc 4:12.2.0-3 added",
		"debian-bookworm-x86_64: package zlib1g 1:1.2.13.dfsg-1 → 1:1.3",
	}
	if diff := cmp.Diff(want, lines(Diff(old, now))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g.Suites = []LockedSuite{{Suite: "bookworm-security", Archive: ArchiveSecurity}}
	then := sampleLock(t, loadSeabios(t))
	then.Guests["debian-bookworm-x86_64"].Packages[1].Suite = "bookworm-security"
	then.Guests["debian-bookworm-x86_64"].Packages[0].Suite = "bookworm-security"
	then.Guests["debian-bookworm-x86_64"].Packages[0].Version = "1:1.2.13-2"
	want = []string{
		"debian-bookworm-x86_64: package base-files 12.4: bookworm → bookworm-security",
		"debian-bookworm-x86_64: package zlib1g 1:1.2.13.dfsg-1 → 1:1.2.13-2 (bookworm-security)",
	}
	if diff := cmp.Diff(want, lines(Diff(sampleLock(t, loadSeabios(t)), then))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := lines(Diff(nil, now)); len(got) != 2 || got[1] != "debian-bookworm-x86_64: added, 4 packages" {
		t.Errorf("from nothing: %q", got)
	}
}

func lines(changes []Change) (out []string) {
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}
