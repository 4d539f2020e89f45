package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/verify"
)

const (
	guest64 = "debian-bookworm-x86_64"
	guest32 = "debian-bookworm-i686"
)

// built is the result of 'belljar build --json', as far as the tests look at it.
type built struct {
	Run       string
	Cached    bool
	Accel     string
	Artifacts []struct{ Name, Path, SHA256 string }
	Verdicts  []struct {
		Test string
		Pass bool
	}
	Record string
}

// buildSeaBIOS builds SeaBIOS in a guest, or finds it built. The run's folder must be there: it is evidence.
func buildSeaBIOS(t testing.TB, b *belljar, guest string, flags ...string) built {
	t.Helper()
	args := append([]string{"build", "seabios", "--guest", guest, "--json"}, flags...)
	var r built
	o := b.succeed(args...)
	o.result(t, &r)
	if _, err := os.Stat(filepath.Join(b.dir, "runs", r.Run)); r.Cached && err != nil {
		r = built{}
		b.succeed(append(args, "--no-cache")...).result(t, &r)
	}
	t.Logf("%s: cached %v, under %s, took %s", guest, r.Cached, r.Accel, o.took.Round(time.Second))
	if len(r.Artifacts) != 1 || r.Artifacts[0].Name != "bios-256k.bin" {
		t.Fatalf("artifacts: %+v, want bios-256k.bin", r.Artifacts)
	}
	return r
}

// rom is a SeaBIOS that passed its tests.
func rom(t testing.TB) []byte {
	t.Helper()
	r := buildSeaBIOS(t, onShared(t), guest64)
	data, err := os.ReadFile(r.Artifacts[0].Path)
	must(t, err)
	return data
}

func digestOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// SeaBIOS is built in both guests, boots, and is the same; asked for again, it comes from the cache.
func TestSeaBIOS(t *testing.T) {
	needMachines(t)
	digests := map[string]string{}
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) {
			b := onShared(t)
			r := buildSeaBIOS(t, b, guest)
			digests[guest] = r.Artifacts[0].SHA256
			checkArtifact(t, b, guest, r)
			checkRecord(t, b, r)
			checkRunFolder(t, filepath.Join(b.dir, "runs", r.Run))
			answersFromCache(t, b, guest)
			noMachine(t, filepath.Join(b.dir, "runs", r.Run), time.Second)
		})
	}
	if len(digests) == 2 && digests[guest64] != digests[guest32] {
		t.Errorf("the guests do not agree: %v", digests)
	}
}

func checkArtifact(t *testing.T, b *belljar, guest string, r built) {
	t.Helper()
	a := r.Artifacts[0]
	if want := filepath.Join(b.cwd, "out", "roms", "seabios", guest, a.Name); a.Path != want {
		t.Errorf("artifact at %s, want %s", a.Path, want)
	}
	if got := digestOf(t, a.Path); got != a.SHA256 {
		t.Errorf("artifact has sha256 %s, the result says %s", got, a.SHA256)
	}
	if len(r.Verdicts) != 2 {
		t.Errorf("verdicts: %+v, want i440fx and q35", r.Verdicts)
	}
	for _, v := range r.Verdicts {
		if !v.Pass {
			t.Errorf("handed over in spite of %+v", v)
		}
	}
}

func checkRecord(t *testing.T, b *belljar, r built) {
	t.Helper()
	if filepath.Dir(r.Record) != filepath.Dir(r.Artifacts[0].Path) {
		t.Errorf("record %s is not beside the artifact", r.Record)
	}
	rec, err := verify.Read(r.Record)
	must(t, err)
	must(t, rec.Validate())
	must(t, verify.CheckArtifact(rec, r.Artifacts[0].Path))
	if len(rec.Subject) != 1 || rec.Subject[0].Digest.SHA256 != r.Artifacts[0].SHA256 {
		t.Errorf("subject: %+v, want %s", rec.Subject, r.Artifacts[0].SHA256)
	}
	var seal struct {
		Interfaces, Leaks []string
		Sealed            bool
	}
	must(t, json.Unmarshal(rec.Predicate.RunEvidence.Seal, &seal))
	if len(seal.Interfaces) != 1 || seal.Interfaces[0] != "lo" || len(seal.Leaks) != 0 || !seal.Sealed {
		t.Errorf("seal: %+v, want lo alone", seal)
	}
	logs := 0
	for _, by := range rec.Predicate.RunDetails.Byproducts {
		if !strings.HasPrefix(by.Name, "stage-") {
			continue
		}
		logs++
		d := by.Digest.SHA256
		if got := digestOf(t, filepath.Join(filepath.Dir(r.Record), by.Name)); got != d {
			t.Errorf("%s beside the record has sha256 %s, the record says %s", by.Name, got, d)
		}
		log, err := os.ReadFile(filepath.Join(b.dir, "store", "objects", d[:2], d))
		must(t, err)
		onlyLoopback(t, string(log))
	}
	if logs != 1 {
		t.Errorf("the record names %d logs, want 1", logs)
	}
}

// onlyLoopback looks at what the probe wrote at the head of a log: the output of ip link, numbered from 1.
func onlyLoopback(t *testing.T, log string) {
	t.Helper()
	contains(t, "log", log, "ip link: 1: lo", "interfaces: lo\n")
	if strings.Contains(log, "ip link: 2:") {
		t.Errorf("a second interface:\n%s", log)
	}
}

func checkRunFolder(t *testing.T, run string) {
	t.Helper()
	for _, name := range []string{"run.log", "stage-build/console.log", "stage-build/cmdline", "smoke-q35/console.log"} {
		if info, err := os.Stat(filepath.Join(run, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, want text in it", name, err)
		}
	}
	log, err := os.ReadFile(filepath.Join(run, "stage-build", "stage.log"))
	must(t, err)
	onlyLoopback(t, string(log))
	if left, _ := filepath.Glob(filepath.Join(run, "*", "*.img")); len(left) > 0 {
		t.Errorf("disks left: %q", left)
	}
	if s, err := readRun(run); err != nil || s.State != "passed" {
		t.Errorf("state %q, %v, want passed", s.State, err)
	}
}

// answersFromCache takes the best of several calls: what the program needs, not what else the machine does.
func answersFromCache(t *testing.T, b *belljar, guest string) {
	t.Helper()
	const limit = 500 * time.Millisecond
	best := time.Hour
	for range 5 {
		o := b.succeed("build", "seabios", "--guest", guest)
		contains(t, "output", o.stdout, "nothing changed: answered from the cache", "bios-256k.bin")
		best = min(best, o.took)
	}
	t.Logf("%s: answered from the cache in %s", guest, best.Round(time.Millisecond))
	if best >= limit {
		t.Errorf("answered from the cache in %s, want less than %s", best, limit)
	}
}

// Each guest builds the same bytes again.
func TestSlowRepeat(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("builds everything a second time; asked for by BELLJAR_SLOW=1")
	}
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) {
			first := buildSeaBIOS(t, onShared(t), guest).Artifacts[0]
			second := buildSeaBIOS(t, onShared(t), guest, "--no-cache").Artifacts[0]
			if first.Path == second.Path {
				t.Fatal("the same file twice")
			}
			if a, b := digestOf(t, first.Path), digestOf(t, second.Path); a != b {
				t.Errorf("first %s, second %s", a, b)
			}
		})
	}
}

func digestOfText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
