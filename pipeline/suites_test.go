package pipeline

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm/fake"
)

// archive is a Debian archive's files by path, signed by a key made for the test. Folders of several archives and
// moments may lie in it, as on a mirror or in the snapshot archive.
type archive struct {
	files map[string][]byte
	mu    sync.Mutex
	asked []string
	key   *openpgp.Entity
}

func newArchive(t *testing.T) (*archive, func() (*debian.Keys, error)) {
	t.Helper()
	key, err := openpgp.NewEntity("Test Archive", "", "archive@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := key.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	keys := func() (*debian.Keys, error) { return debian.ReadKeys("test.gpg", bytes.NewReader(public.Bytes())) }
	return &archive{files: map[string][]byte{}, key: key}, keys
}

// suite puts a suite below root; until is its Valid-Until, packages are lines 'name version; Field: value'.
func (a *archive) suite(t *testing.T, root, name string, date, until time.Time, packages ...string) {
	t.Helper()
	var b strings.Builder
	for _, line := range packages {
		parts := strings.Split(line, "; ")
		pkg, version, _ := strings.Cut(parts[0], " ")
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/main/%[3]c/%[1]s/%[1]s_%[2]s_amd64.deb\n"+
			"Size: 7\nSHA256: %[4]x\n", pkg, version, pkg[0], sha256.Sum256([]byte(line)))
		b.WriteString(strings.Join(parts[1:], "\n"))
		if len(parts) > 1 {
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	index := []byte(b.String())
	sources := fmt.Appendf(nil, "Package: rom\nVersion: 1-1\nDirectory: pool/main/r/rom\nChecksums-Sha256:\n %064d 12 rom_1-1.dsc\n", 1)
	if strings.HasSuffix(name, "-security") {
		sources = bytes.ReplaceAll(sources, []byte("1-1"), []byte("1-2"))
	}
	release := fmt.Sprintf("Suite: x\nCodename: %s\nDate: %s\nArchitectures: amd64 i386\nComponents: main\n", name, date.UTC().Format(time.RFC1123))
	if !until.IsZero() {
		release += "Valid-Until: " + until.UTC().Format(time.RFC1123) + "\n"
	}
	release += "SHA256:\n"
	for path, data := range map[string][]byte{
		"main/binary-amd64/Packages": index, "main/binary-i386/Packages": []byte("Package: base\nVersion: 1\nArchitecture: i386\n" +
			"Filename: pool/b.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n"), "main/source/Sources": sources,
	} {
		release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256(data), len(data), path)
		a.files[root+"/dists/"+name+"/"+path] = data
	}
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, a.key.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, release); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a.files[root+"/dists/"+name+"/InRelease"] = append(signed.Bytes(), '\n')
}

func (a *archive) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked = append(a.asked, r.URL.Path)
		a.mu.Unlock()
		data, ok := a.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// lockHouse is a house that knows one archive, and a spec for a guest with these lines in it.
func lockHouse(t *testing.T, keys func() (*debian.Keys, error), config, guest string, mirrors ...string) (*house, *heard, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.yaml": config,
		"guest.yaml": "name: g\narch: x86_64\nsuite: bookworm\nkernel: linux-image-amd64\npackages: [busybox-static]\nmachine: pc-q35-6.2\n" +
			"cpu: Nehalem-v1\nmemory: 1GiB\ncpus: 1\nclock: \"2026-01-01T00:00:00Z\"\nscratch: 1GiB\n" + guest,
		"toy.yaml": strings.NewReplacer("debian-bookworm-x86_64", "./guest.yaml",
			"sources: []", "sources: [{name: rom, debian: rom, version: 1-1}]").Replace(testSpec),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h, said := newHouse(t, fake.Script{})
	h.keyring, h.Mirrors, h.Config.Config = keys, mirrors, filepath.Join(dir, "config.yaml")
	return h, said, filepath.Join(dir, "toy.yaml")
}

// base is what a guest needs at least.
var base = []string{
	"libc6 2.36-9; Essential: yes", "busybox-static 1.35-4", "linux-image-amd64 6.1.1; Depends: linux-image-6.1.0-1-amd64 (= 6.1.1)",
	"linux-image-6.1.0-1-amd64 6.1.1",
}

var (
	now    = time.Now()
	before = now.Add(-48 * time.Hour)
	soon   = now.Add(48 * time.Hour)
	never  time.Time
)

func (h *house) mustLock(t *testing.T, spec string, o LockOptions) (*specs.Lock, *LockResult) {
	t.Helper()
	o.Spec = spec
	res, err := h.makeLock(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := specs.ParseLock(res.Path, data)
	if err != nil {
		t.Fatal(err)
	}
	return lock, res
}

// chosen lists a lock's packages as 'name version suite'.
func chosen(g *specs.LockedGuest) []string {
	var all []string
	for _, p := range g.Packages {
		all = append(all, strings.TrimSpace(p.Name+" "+p.Version+" "+p.Suite))
	}
	return all
}

// TestLockSuites: of updates and security updates the highest version wins, the kernel's too; each package says where it
// comes from, and is fetched from there.
func TestLockSuites(t *testing.T) {
	a, keys := newArchive(t)
	a.suite(t, "/debian", "bookworm", before, never, append(base, "tzdata 1")...)
	a.suite(t, "/debian", "bookworm-updates", before, soon, "libc6 2.36-9", "tzdata 2", "busybox-static 1.35-5")
	a.suite(t, "/debian-security", "bookworm-security", before, soon, "libc6 2.36-9+deb12u1; Essential: yes; Depends: tzdata",
		"linux-image-amd64 6.1.2; Depends: linux-image-6.1.0-2-amd64 (= 6.1.2)", "linux-image-6.1.0-2-amd64 6.1.2", "busybox-static 1.35-4+deb12u1")
	url := a.serve(t)
	h, said, spec := lockHouse(t, keys, "", "security: true\nupdates: true\n", url+"/debian")
	lock, _ := h.mustLock(t, spec, LockOptions{})
	g := lock.Guests["g"]
	want := []string{"busybox-static 1.35-5 bookworm-updates", "libc6 2.36-9+deb12u1 bookworm-security",
		"linux-image-6.1.0-2-amd64 6.1.2 bookworm-security", "tzdata 2 bookworm-updates"}
	if got := chosen(g); !slices.Equal(got, want) {
		t.Errorf("chosen %q, want %q", got, want)
	}
	if g.Kernel.Release != "6.1.0-2-amd64" || len(g.Suites) != 2 || g.Suites[0].Archive != "debian-security" {
		t.Errorf("kernel %v, suites %+v", g.Kernel, g.Suites)
	}
	for _, it := range pinned(lock, g) {
		archive, moment := it.Archive, it.Snapshot
		if strings.HasPrefix(it.Name, "libc6_") && (archive != "debian-security" || moment != g.Suites[0].Release.Snapshot) {
			t.Errorf("%s would be fetched from %s at %s", it.Name, archive, moment)
		}
		if strings.HasPrefix(it.Name, "tzdata_") && archive != "debian" {
			t.Errorf("%s would be fetched from %s", it.Name, archive)
		}
	}
	if !strings.Contains(said.texts(Note), "source rom: the spec pins 1-1; bookworm-security has 1-2") {
		t.Errorf("notes: %s", said.texts(Note))
	}

	// Without them, the same mirror gives what the release has; the lock is of the first version then.
	h, _, spec = lockHouse(t, keys, "", "", url+"/debian")
	lock, _ = h.mustLock(t, spec, LockOptions{})
	if got := chosen(lock.Guests["g"]); !slices.Equal(got, []string{"busybox-static 1.35-4", "libc6 2.36-9", "linux-image-6.1.0-1-amd64 6.1.1"}) {
		t.Errorf("chosen %q", got)
	}
	if lock.Version != 1 {
		t.Errorf("the lock is of version %d, want the oldest that will do", lock.Version)
	}
}

// TestLockFromFolder: a folder that holds both archives' suites is a mirror.
func TestLockFromFolder(t *testing.T) {
	a, keys := newArchive(t)
	dir := filepath.Join(t.TempDir(), "mirror")
	a.suite(t, dir, "bookworm", before, never, base...)
	a.suite(t, dir, "bookworm-security", before, soon, "libc6 2.36-9+deb12u1; Essential: yes")
	for name, data := range a.files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h, _, spec := lockHouse(t, keys, "snapshot: http://127.0.0.1:9\n", "security: true\n", dir)
	_, err := h.makeLock(t.Context(), LockOptions{Spec: spec})
	wantFault(t, err, fault.Input, dir+" has no pool/")
	if err := os.Mkdir(filepath.Join(dir, "pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, _ := h.mustLock(t, spec, LockOptions{})
	if got := chosen(lock.Guests["g"])[1]; got != "libc6 2.36-9+deb12u1 bookworm-security" {
		t.Errorf("chosen %q", got)
	}
}

// TestLockSnapshot: a moment is resolved against the snapshot archive alone, whatever the mirror has, and whatever its
// Release files' Valid-Until says.
func TestLockSnapshot(t *testing.T) {
	const stamp = "20250101T000000Z"
	then := time.Date(2024, 12, 31, 0, 0, 0, 0, time.UTC)
	a, keys := newArchive(t)
	a.suite(t, "/archive/debian/"+stamp, "bookworm", then, never, base...)
	a.suite(t, "/archive/debian-security/"+stamp, "bookworm-security", then, then.Add(7*24*time.Hour), "libc6 2.36-9+deb12u1; Essential: yes")
	a.suite(t, "/debian", "bookworm", before, never, append(base, "libc6 3; Essential: yes")...)
	a.suite(t, "/debian-security", "bookworm-security", before, soon, "libc6 4; Essential: yes")
	url := a.serve(t)
	h, said, spec := lockHouse(t, keys, "snapshot: "+url+"/archive\n", "security: true\nsnapshot: "+stamp+"\n", url+"/debian")
	lock, _ := h.mustLock(t, spec, LockOptions{})
	g := lock.Guests["g"]
	if got := chosen(g)[1]; got != "libc6 2.36-9+deb12u1 bookworm-security" {
		t.Errorf("chosen %q", got)
	}
	if g.Release.Snapshot != stamp || g.Suites[0].Release.Snapshot != stamp || lock.Sources[0].Snapshot != stamp || lock.Sources[0].Suite != "bookworm" {
		t.Errorf("the lock is of %s, %+v, %+v", g.Release.Snapshot, g.Suites, lock.Sources[0])
	}
	if want := "bookworm-security is of 2024-12-31 and was valid until 2025-01-07: accepted, for it is a snapshot"; !strings.Contains(said.texts(Note), want) {
		t.Errorf("notes are %q, want %q", said.texts(Note), want)
	}
	for _, path := range a.asked {
		if !strings.HasPrefix(path, "/archive/") {
			t.Errorf("%s was asked for, which is of the present", path)
		}
	}

	// A mirror that is a snapshot itself is no stale mirror; one that is not, is.
	h, _, spec = lockHouse(t, keys, "snapshot: http://127.0.0.1:9\n", "security: true\n", url+"/archive/debian/"+stamp)
	if lock, _ = h.mustLock(t, spec, LockOptions{}); chosen(lock.Guests["g"])[1] != "libc6 2.36-9+deb12u1 bookworm-security" {
		t.Errorf("chosen %q", chosen(lock.Guests["g"]))
	}
	maps.DeleteFunc(a.files, func(path string, _ []byte) bool { return strings.HasPrefix(path, "/archive/") })
	a.suite(t, "/debian-security", "bookworm-security", then, then.Add(time.Hour), "libc6 4; Essential: yes")
	h, _, spec = lockHouse(t, keys, "snapshot: "+url+"/archive\n", "security: true\n", url+"/debian")
	_, err := h.makeLock(t.Context(), LockOptions{Spec: spec})
	wantFault(t, err, fault.Input, "bookworm-security", "it was valid until 2024-12-31 01:00:00 only", "the mirror is stale")
}

// TestLockUpdate: with --update the archive is asked even where the lock would do; a dry run writes nothing.
func TestLockUpdate(t *testing.T) {
	a, keys := newArchive(t)
	a.suite(t, "/debian", "bookworm", before, never, append(base, "libold0 1; Essential: yes", "zlib1g 1; Essential: yes")...)
	a.suite(t, "/debian-security", "bookworm-security", before, soon, "unrelated 1")
	url := a.serve(t)
	h, _, spec := lockHouse(t, keys, "", "security: true\n", url+"/debian")
	_, res := h.mustLock(t, spec, LockOptions{})
	if !res.Written || len(res.Details) != 0 {
		t.Fatalf("the first lock: %+v", res)
	}
	old, err := os.ReadFile(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	a.suite(t, "/debian", "bookworm", now, never, append(base, "libnew1 1; Essential: yes")...)
	a.suite(t, "/debian-security", "bookworm-security", now, soon, "libc6 2.36-9+deb12u1; Essential: yes", "zlib1g 1; Essential: yes",
		"linux-image-amd64 6.1.2; Depends: linux-image-6.1.0-2-amd64 (= 6.1.2)", "linux-image-6.1.0-2-amd64 6.1.2")

	asked := len(a.asked)
	if _, res = h.mustLock(t, spec, LockOptions{}); res.Written || len(a.asked) != asked {
		t.Errorf("without --update, the archive was asked %d times: %+v", len(a.asked)-asked, res)
	}
	_, res = h.mustLock(t, spec, LockOptions{Update: true, DryRun: true})
	want := []string{
		"g: snapshot " + stampOf(before) + " → " + stampOf(now),
		"g: kernel linux-image-6.1.0-1-amd64 6.1.1 → linux-image-6.1.0-2-amd64 6.1.2 (bookworm-security)",
		"g: package libc6 2.36-9 → 2.36-9+deb12u1 (bookworm-security)",
		"g: package libnew1 1 added",
		"g: package libold0 1 removed",
		"g: package zlib1g 1: bookworm → bookworm-security",
	}
	if !slices.Equal(res.Changes, want) || res.Written || !res.DryRun {
		t.Errorf("a dry run says %q (written: %v), want %q", res.Changes, res.Written, want)
	}
	if data, _ := os.ReadFile(res.Path); !bytes.Equal(data, old) {
		t.Error("a dry run wrote the lock")
	}
	lock, res := h.mustLock(t, spec, LockOptions{Update: true})
	if !res.Written || !slices.Equal(res.Changes, want) || !res.Details[2].Security {
		t.Errorf("written: %v, %+v", res.Written, res.Details)
	}
	if got := lock.Guests["g"].Kernel.Release; got != "6.1.0-2-amd64" {
		t.Errorf("the kernel is %s", got)
	}
	if _, res = h.mustLock(t, spec, LockOptions{Update: true}); res.Written || len(res.Changes) != 0 {
		t.Errorf("a second update: %+v", res)
	}
}

func stampOf(t time.Time) string { return t.UTC().Truncate(time.Second).Format("20060102T150405Z") }

// TestLockWithoutKernel: a suite that has no kernel for 32-bit PCs says so, rather than that a name is unknown.
func TestLockWithoutKernel(t *testing.T) {
	a, keys := newArchive(t)
	a.suite(t, "/debian", "bookworm", before, never, base...)
	h, _, spec := lockHouse(t, keys, "", "", a.serve(t)+"/debian")
	guest := filepath.Join(filepath.Dir(spec), "guest.yaml")
	text, err := os.ReadFile(guest)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("x86_64"), []byte("i686"))
	if err := os.WriteFile(guest, text, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = h.makeLock(t.Context(), LockOptions{Spec: spec})
	wantFault(t, err, fault.Input, "guest g: kernel: bookworm has no kernel for i386 at all")
	if remedy := fault.Chain(err)[0].Remedy; !strings.Contains(remedy, "32-bit") {
		t.Errorf("remedy is %q", remedy)
	}
}
