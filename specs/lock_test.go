package specs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

func sha(n byte) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }

// sampleLock is a lock for the shipped seabios that is as small as one can be.
func sampleLock(t *testing.T, l *Loaded) *Lock {
	t.Helper()
	lock := &Lock{Version: LockVersion, Spec: Stamp(l), Guests: map[string]*LockedGuest{}}
	lock.Sources = []LockedSource{{Name: "seabios", Kind: KindDebian, Package: "seabios", Version: "1.16.2-1", Files: []File{
		{Name: "seabios_1.16.2.orig.tar.gz", SHA256: sha(2), Size: 600_000, Pool: "pool/main/s/seabios/seabios_1.16.2.orig.tar.gz"},
		{Name: "seabios_1.16.2-1.dsc", SHA256: sha(1), Size: 2000, Pool: "pool/main/s/seabios/seabios_1.16.2-1.dsc"},
	}}}
	for i, name := range l.GuestNames() {
		g, err := l.Guest(name)
		if err != nil {
			t.Fatal(err)
		}
		arch := debianArch[g.Arch]
		lock.Guests[name] = &LockedGuest{
			Arch: g.Arch, Suite: g.Suite, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock,
			Release: Release{Suite: "oldstable", Codename: "bookworm", Date: time.Date(2026, 9, 5, 9, 30, 11, 0, time.UTC),
				InReleaseSHA256: sha(3), Snapshot: "20260905T143000Z"},
			Kernel: Kernel{Package: "linux-image-6.1.0-40-" + arch, Version: "6.1.153-1", Release: "6.1.0-40-" + arch},
			Packages: []Package{
				{Name: "zlib1g", Version: "1:1.2.13.dfsg-1", Arch: arch, SHA256: sha(9 + byte(i)), Size: 86_000, Pool: "pool/main/z/zlib/zlib1g.deb"},
				{Name: "base-files", Version: "12.4", Arch: arch, SHA256: sha(5), Size: 70_000, Pool: "pool/main/b/base-files/b.deb", Essential: true},
				{Name: "linux-image-6.1.0-40-" + arch, Version: "6.1.153-1", Arch: arch, SHA256: sha(6), Size: 69_000_000,
					Pool: "pool/main/l/linux-signed/linux-image.deb", Kernel: true},
			},
		}
	}
	return lock
}

func loadSeabios(t *testing.T) *Loaded {
	t.Helper()
	l, err := Load("seabios")
	if err != nil {
		t.Fatal(report(err))
	}
	return l
}

func TestLockRoundTrip(t *testing.T) {
	lock := sampleLock(t, loadSeabios(t))
	data := lock.Marshal()
	golden(t, "testdata/seabios.lock.json", string(data))
	back, err := ParseLock("x.lock.json", data)
	if err != nil {
		t.Fatal(report(err))
	}
	if got := back.Marshal(); string(got) != string(data) {
		t.Errorf("not stable:\n%s", cmp.Diff(string(data), string(got)))
	}
	if lock.Sources[0].Files[0].Name != "seabios_1.16.2.orig.tar.gz" {
		t.Error("Marshal sorted its caller's lists")
	}
}

func TestParseLockRefuses(t *testing.T) {
	data, err := os.ReadFile("testdata/seabios.lock.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []breakage{
		{"unknown key", `"codename"`, `"codenam"`, `guests.debian-bookworm-i686.release: unknown key "codenam": did you mean "codename"?`},
		{"missing digest", "\"sha256\": \"" + sha(1) + "\",\n", "", `sources[0].files[0]: missing: sha256`},
		{"missing size", "\"size\": 2000,\n", "", `sources[0].files[0]: missing: size`},
		{"missing pool", `"pool": "pool/main/s/seabios/seabios_1.16.2-1.dsc"`, `"arch": "all"`, `sources[0].files[0]: missing: pool`},
		{"bad hex", sha(1), strings.Repeat("0G", 32), `sources[0].files[0].sha256: "` + strings.Repeat("0G", 32) + `" is not a SHA-256: 64 lower-case hex digits`},
		{"short digest", sha(1), "0101", `sources[0].files[0].sha256: "0101" is not a SHA-256: 64 lower-case hex digits`},
		{"size of nothing", `"size": 2000`, `"size": 0`, `sources[0].files[0].size: 0 is not a file's size`},
		{"size with point", `"size": 2000`, `"size": 2000.0`, `sources[0].files[0].size: expected a number, found a number with a point`},
		{"pool climbs", "pool/main/s/seabios/seabios_1.16.2-1.dsc", "pool/../../etc/passwd", `sources[0].files[0].pool: "pool/../../etc/passwd" is not a pool path, like pool/main/s/seabios/seabios_1.16.2-1.dsc`},
		{"pool absolute", "pool/main/s/seabios/seabios_1.16.2-1.dsc", "/etc/passwd", `sources[0].files[0].pool: "/etc/passwd" is not a pool path, like pool/main/s/seabios/seabios_1.16.2-1.dsc`},
		{"file name with a folder", `"seabios_1.16.2-1.dsc"`, `"../seabios_1.16.2-1.dsc"`, `sources[0].files[0].name: "../seabios_1.16.2-1.dsc" is not a file's name`},
		{"unsorted", `"base-files"`, `"zzz"`, `guests.debian-bookworm-i686.packages[1]: not sorted: linux-image-6.1.0-40-i386 i386 stands after zzz i386`},
		{"doubled entry", `"base-files"`, `"linux-image-6.1.0-40-i386"`, `guests.debian-bookworm-i686.packages[1]: linux-image-6.1.0-40-i386 i386 is there twice`},
		{"doubled key", `"version": 1,`, `"version": 1, "version": 1,`, `the key "version" is there twice`},
		{"foreign architecture", `"arch": "i386"`, `"arch": "amd64"`, `guests.debian-bookworm-i686.packages[0].arch: a package for "amd64" cannot go into a guest of i686`},
		{"no kernel", ",\n          \"kernel\": true", "", `guests.debian-bookworm-i686.packages: one package must be the kernel, found 0`},
		{"another kernel", `"package": "linux-image-6.1.0-40-i386"`, `"package": "linux-image-6.1.0-41-i386"`, `guests.debian-bookworm-i686.packages[1]: linux-image-6.1.0-40-i386 6.1.153-1 is marked as the kernel, which is linux-image-6.1.0-41-i386 6.1.153-1`},
		{"snapshot", "20260905T143000Z", "2026-09-05", `guests.debian-bookworm-i686.release.snapshot: "2026-09-05" is not a moment of snapshot.debian.org, like 20260101T000000Z`},
		{"kind", `"kind": "debian"`, `"kind": "deb"`, `sources[0].kind: there is no kind "deb": did you mean "debian"?`},
		{"newer", `"version": 1,`, `"version": 4,`, `version: this program reads locks of version 1 to 3, not 4`},
		{"a version that has no suites", `"package": "seabios"`, `"suite": "bookworm-security", "archive": "debian-security", "snapshot": "20260101T000000Z", "package": "seabios"`,
			`version: it is 1, but there are suites or snapshots, which version 2 brought`},
		{"a version that has no needs", `"sources": [`, `"needs": [{"name": "tool", "lock": "` + sha(7) + `", "sections": {}}], "sources": [`,
			`version: it is 1, but there are needs, which version 3 brought`},
		{"a need's digest", "\"version\": 1,", "\"version\": 3, \"needs\": [{\"name\": \"tool\", \"lock\": \"7\", \"sections\": {}}],",
			`needs[0].lock: "7" is not a SHA-256: 64 lower-case hex digits`},
		{"a need twice", "\"version\": 1,", "\"version\": 3, \"needs\": [" + strings.Repeat(`, {"name": "tool", "lock": "`+sha(7)+`", "sections": {}}`, 2)[2:] + "],",
			`needs[1]: tool is there twice`},
		{"package of no suite", `"kernel": true`, `"suite": "sid", "kernel": true`,
			`guests.debian-bookworm-i686.packages[1].suite: "sid" is not one of the guest's suites`},
		{"syntax", `"version": 1,`, `"version": 1,,`, `not JSON: invalid character ',' looking for beginning of object key string`},
		{"trailing", "\n}\n", "\n}\n{}", `not JSON: invalid character '{' after top-level value`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, after, ok := strings.Cut(string(data), tc.old)
			if !ok {
				t.Fatal("the case changes nothing")
			}
			_, err := ParseLock("x.lock.json", []byte(before+tc.new+after))
			chain := fault.Chain(err)
			if len(chain) == 0 || chain[0].Kind != fault.Input {
				t.Fatalf("not an input fault: %v", err)
			}
			got := chain[0].Err.Error()
			got, _, _ = strings.Cut(got, " (and")
			var line, column int
			if _, err := fmt.Sscanf(got, "x.lock.json:%d:%d:", &line, &column); err != nil {
				t.Fatalf("no place: %s", got)
			}
			_, got, _ = strings.Cut(got, ": ")
			if got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
			// The place must be in the object that was changed.
			changed := strings.Count(before, "\n") + 1
			if line > changed+20 || line < changed-60 {
				t.Errorf("points at line %d, the change is in line %d", line, changed)
			}
		})
	}
}

// TestParseLockPlace holds lines and columns, byte for byte, where they are easily off by one.
func TestParseLockPlace(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"comma":         {"{\n  \"version\": 1,,\n", "2:16"},
		"last byte":     {"{\n x", "2:2"},
		"bad value":     {"{\n  \"version\": x\n", "2:14"},
		"cut off":       {"{\n  \"version\": 1,\n", "3:1"},
		"in string":     {"{\n  \"vers", "2:8"},
		"empty":         {"", "1:1"},
		"wrong type":    {"{\n\t\"version\": \"1\", \"spec\": {}, \"sources\": [],  \"guests\": {}}", "2:13"},
		"wide":          {"{\"ä\": 1,\"ö\": 2,\"ä\": 3}", "1:16"},
		"not an object": {"\n\n 3", "3:2"},
		"nothing":       {"null", "1:1"},
		"deep":          {strings.Repeat("[", 100) + strings.Repeat("]", 100), "1:34"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseLock("l", []byte(tc.data))
			if err == nil || !strings.HasPrefix(err.Error(), "read lock: l:"+tc.want+":") {
				t.Errorf("got %v, want it at %s", err, tc.want)
			}
		})
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	lock := sampleLock(t, loadSeabios(t))
	name := filepath.Join(dir, "rom.lock.json")
	for range 2 { // the second replaces the first
		if err := lock.WriteFile(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != string(lock.Marshal()) {
		t.Errorf("read back: %v", err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	err = lock.WriteFile(filepath.Join(dir, "absent", "rom.lock.json"))
	if fault.KindOf(err) != fault.Host {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := lock.WriteFile(filepath.Join(dir, "taken")); fault.KindOf(err) != fault.Host {
		t.Errorf("a folder of that name: %v", err)
	}
	if entries, _ = os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind after a failure: %v", entries)
	}
}

// TestLockOfManySuites: what version 2 can say, and what is refused of it.
func TestLockOfManySuites(t *testing.T) {
	l := loadSeabios(t)
	lock := sampleLock(t, l)
	const name = "debian-bookworm-x86_64"
	g := lock.Guests[name]
	release := g.Release
	release.Snapshot = "20261001T000000Z"
	g.Suites = []LockedSuite{
		{Suite: "bookworm-updates", Archive: ArchiveMain, Release: g.Release},
		{Suite: "bookworm-security", Archive: ArchiveSecurity, Release: release},
	}
	g.Packages[0].Suite = "bookworm-security"
	lock.Sources[0].Suite, lock.Sources[0].Archive, lock.Sources[0].Snapshot = "bookworm-security", ArchiveSecurity, "20261001T000000Z"
	data := lock.Marshal()
	back, err := ParseLock("x", data)
	if err != nil {
		t.Fatal(report(err))
	}
	if back.Version != 2 || back.Guests[name].Suites[0].Suite != "bookworm-security" || string(back.Marshal()) != string(data) {
		t.Errorf("read back as version %d, %+v", back.Version, back.Guests[name].Suites)
	}
	archive, snapshot := g.Origin(g.Packages[0])
	if archive != "debian-security" || snapshot != "20261001T000000Z" {
		t.Errorf("a security update lies in %s at %s", archive, snapshot)
	}
	if archive, snapshot = g.Origin(g.Packages[1]); archive != "debian" || snapshot != g.Release.Snapshot {
		t.Errorf("a package of the guest's own suite lies in %s at %s", archive, snapshot)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"archive", `"archive": "debian-security",
          "release"`, `"archive": "debian-securty",
          "release"`, `guests.` + name + `.suites[0].archive: there is no archive "debian-securty": did you mean "debian-security"?`},
		{"own suite", `"suite": "bookworm-updates"`, `"suite": "bookworm"`, `guests.` + name + `.suites[1]: not sorted: bookworm stands after bookworm-security`},
		{"twice", `"suite": "bookworm-updates"`, `"suite": "bookworm-security"`, `guests.` + name + `.suites[1]: bookworm-security is there twice`},
		{"source without its moment", `"snapshot": "20261001T000000Z",
      "files"`, `"files"`, `sources[0].snapshot: "" is not a moment of snapshot.debian.org, like 20260101T000000Z`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(string(data), tc.old, tc.new, 1)
			if text == string(data) {
				t.Fatal("the case changes nothing")
			}
			_, err := ParseLock("x", []byte(text))
			if err == nil || !strings.Contains(report(err), tc.want) {
				t.Errorf("\n got %s\nwant %s", report(err), tc.want)
			}
		})
	}
}
