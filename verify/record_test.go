package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const golden = "testdata/record.golden.json"

// sum is a digest that is easy to tell apart in a golden file.
func sum(pair string) string { return strings.Repeat(pair, 32) }

// sample is a build of SeaBIOS as the pipeline would tell it.
func sample() Build {
	rom := Input{Name: "bios-256k.bin", SHA256: sum("a0"), Size: 256 << 10}
	began := time.Date(2026, 3, 1, 10, 0, 0, 0, time.FixedZone("CET", 3600))
	return Build{
		RunID: "20260301-090000-seabios-7f3a", BelljarVersion: "v0.1.0", QEMUVersion: "7.2.22",
		Started: began, Finished: began.Add(4*time.Minute + 31*time.Second),
		Spec: Input{Name: "seabios", SHA256: sum("01")}, Guest: "debian-bookworm-x86_64",
		Lock: Input{Name: "seabios.lock.json", SHA256: sum("02")},
		Machine: Machine{
			Arch: "x86_64", Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 2, Memory: 2 << 30,
			Clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
		},
		Image: []Input{
			{Name: "root", SHA256: sum("11"), Size: 412 << 20},
			{Name: "kernel", SHA256: sum("12"), Size: 8 << 20},
			{Name: "initramfs", SHA256: sum("13"), Size: 2 << 20},
		},
		Agent: Input{Name: "guest-agent", SHA256: sum("14"), Size: 3 << 20},
		Inputs: []Input{
			{Name: "make", URI: PackageURL("make", "4.3-4.1", "amd64"), SHA256: sum("22"), Size: 396_000},
			{Name: "seabios_1.16.2.orig.tar.gz", URI: PackageURL("seabios", "1.16.2-1", "source"), SHA256: sum("21"), Size: 700_000},
			{Name: "seabios_1.16.2-1.dsc", URI: PackageURL("seabios", "1.16.2-1", "source"), SHA256: sum("23"), Size: 2_000},
		},
		Stages: []BuildStage{{
			Name: "seabios", Identity: sum("31"), Wall: 95*time.Second + 250*time.Millisecond,
			Usage:   Usage{UserMS: 71_300, SystemMS: 12_800, Memory: 412 << 20, Largest: 97 << 20, Written: 88 << 20},
			Outputs: []Input{{Name: "out/bios-256k.bin", SHA256: sum("a0"), Size: 256 << 10}},
			Programs: &Programs{List: []Program{
				{Path: "/build/sources/seabios/out/scripts/kconfig/conf", Digest: Digest{sum("52")}, From: FromMade, Runs: 1},
				{Path: "/build/work/conftest", From: FromMade, Runs: 7},
				{Path: "/usr/bin/make", Digest: Digest{sum("51")}, From: FromPackage, Of: PackageURL("make", "4.3-4.1", "amd64"), Runs: 3},
			}},
		}},
		Artifacts:   []Input{rom},
		Host:        Host{OS: "linux", Arch: "amd64", CPUs: 2, Distro: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0-26-amd64"},
		Backend:     Backend{Name: "libvirt", Version: "9.0.0", Transport: "ssh", Arch: "x86_64", CPUs: 8},
		Accel:       Accel{Name: "tcg", Reason: "KVM was tried and hung: no output from the probe kernel within 15 s"},
		Seal:        json.RawMessage(`{"interfaces":["lo"],"routes":null,"name_lookup":"lookup deb.example: no such host","sealed":true,"leaks":null}`),
		Confinement: []string{"sandbox", "user", "landlock"},
		Smoke: []Smoke{{
			Name: "q35", Artifact: rom.Name, SHA256: rom.SHA256, Machine: "pc-q35-6.2", CPU: "qemu64-v1", Memory: 256 << 20,
			Accel: "tcg", Pass: true, Reason: "all 2 expected lines came within 0.2 s",
			Matches: []ConsoleMatch{
				{Pattern: `SeaBIOS \(version [0-9.]+`, Line: "SeaBIOS (version 1.16.2-belljar)", AtMS: 41},
				{Pattern: `^BELLJAR TEST DISK BOOTED$`, Line: "BELLJAR TEST DISK BOOTED", AtMS: 170},
			},
			TookMS: 402, ConsoleTail: "Booting from Hard Disk...\nBooting from 0000:7c00\nBELLJAR TEST DISK BOOTED",
			CommandLine: "qemu-system-x86_64 -machine pc-q35-6.2 -bios rom.bin",
		}},
		Timing: []Timing{{"image", 61_000}, {"boot", 4_100}, {"stage seabios", 95_250}, {"smoke", 402}},
		Logs:   []Input{{Name: "seabios.log", SHA256: sum("41"), Size: 48_213}, {Name: "console.log", SHA256: sum("42"), Size: 9_120}},
	}
}

func TestGoldenRecord(t *testing.T) {
	r := NewRecord(sample())
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	got, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("golden file and record differ (-golden +record):\n%s", diff)
	}
}

// What a reader finds is what was written, to the byte.
func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	r := NewRecord(sample())
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := r.Marshal()
	b, _ := again.Marshal()
	if !bytes.Equal(a, b) {
		t.Errorf("read back:\n%s", cmp.Diff(string(a), string(b)))
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files in the folder, want the record alone", len(left))
	}
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "record.json")
	if err := os.MkdirAll(filepath.Join(blocked, "in-the-way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := NewRecord(sample()).Write(blocked); fault.KindOf(err) != fault.Host {
		t.Errorf("%v, want a host fault", err)
	}
	odd := NewRecord(sample())
	odd.Subject = nil
	if err := odd.Write(filepath.Join(dir, "odd.json")); err == nil || !strings.Contains(err.Error(), "subject: empty") {
		t.Errorf("an odd record was written: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files left, want the one in the way", len(left))
	}
}

// NewRecord's order does not depend on the order in which the pipeline learned of things.
func TestOrderDoesNotMatter(t *testing.T) {
	b := sample()
	b.Inputs[0], b.Inputs[2] = b.Inputs[2], b.Inputs[0]
	b.Image[0], b.Image[1] = b.Image[1], b.Image[0]
	b.Logs[0], b.Logs[1] = b.Logs[1], b.Logs[0]
	one, _ := NewRecord(sample()).Marshal()
	two, _ := NewRecord(b).Marshal()
	if diff := cmp.Diff(string(one), string(two)); diff != "" {
		t.Error(diff)
	}
}

func TestParseIsStrict(t *testing.T) {
	good, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string // replaced once in the golden record
		want           string
	}{
		{"unknown field", `"_type":`, `"comment": "", "_type":`, `unknown field "comment"`},
		{"unknown field inside", `"cpus": 2,`, `"cpus": 2, "bios": "",`, `unknown field "bios"`},
		{"doubled field", `"guest": "debian-bookworm-x86_64"`, `"guest": "x", "guest": "y"`, `line 25: the field "guest" stands twice`},
		{"other case", `"predicateType":`, `"PredicateType":`, "PredicateType: unknown field"},
		{"missing field", `"cpus": 2,`, ``, "machine.cpus: missing"},
		{"wrong type", `"cpus": 2,`, `"cpus": "2",`, "machine.cpus: found a string, expected a whole number"},
		{"null list", `"smoke": [`, `"smoke": null, "x": [`, `unknown field "x"`},
		{"null for a text", `"guest": "debian-bookworm-x86_64"`, `"guest": null`, "externalParameters.guest"},
		{"trailing text", "\n}\n", "\n}\n{}", "something stands behind the record"},
		{"cut off", "\n}\n", "", "ends in the middle"},
		{"no JSON", `"_type"`, `_type`, "line 2: invalid character"},
		{"time in another zone", `"2026-03-01T09:00:00Z"`, `"2026-03-01T10:00:00+00:00"`, "startedOn: found"},
		{"other statement", StatementType, "https://in-toto.io/Statement/v0.1", `_type: is "https://in-toto.io/Statement/v0.1"`},
		{"other predicate", `"predicateType": "` + PredicateType, `"predicateType": "https://slsa.dev/provenance/v0.2`, "predicateType: is"},
		{"short digest", sum("21"), "21", "64 lower-case hex digits"},
		{"upper-case digest", sum("a0"), sum("A0"), "64 lower-case hex digits"},
		{"CPU of the host", "Nehalem-v1", "host", "another CPU on every host"},
		{"unsorted", `"name": "make"`, `"name": "zzz"`, "resolvedDependencies: is not sorted"},
		{"smoke of nothing", `"artifact": "bios-256k.bin"`, `"artifact": "other.bin"`, "no subject of this record"},
		{"smoke of other bytes", `"sha256": "` + sum("a0") + "\",\n          \"machine\"", `"sha256": "` + sum("a1") + "\",\n          \"machine\"", "other bytes were booted"},
		{"program of an unknown package", `"of": "pkg:deb/debian/make@4.3-4.1?arch=amd64"`, `"of": "make"`, `programs.list[2].of: is "make", which is none of resolvedDependencies`},
		{"program of nowhere", `"from": "made"`, `"from": "the internet"`, `programs.list[0].from: is "the internet"`},
		{"program that never ran", `"runs": 7`, `"runs": 0`, `programs.list[1].runs: is 0`},
		{"programs unsorted", `"path": "/build/work/conftest"`, `"path": "/zzz"`, `programs.list: is not sorted`},
		{"program without a path", `"path": "/build/sources`, `"path": "build/sources`, `programs.list[0].path: is "build/sources`},
		{"program of a package without a digest", "\"digest\": {\n                  \"sha256\": \"" + sum("51") + "\"\n                },\n", "", "programs.list[2].digest.sha256"},
		{"ends before it begins", `"finishedOn": "2026`, `"finishedOn": "2025`, "before startedOn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !bytes.Contains(good, []byte(c.old)) {
				t.Fatalf("the golden record has no %q", c.old)
			}
			r, err := Parse(bytes.Replace(good, []byte(c.old), []byte(c.new), 1))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
			if r != nil {
				t.Error("a record came with the error")
			}
		})
	}
}

// A build whose guest was never looked at for leaks has no record.
func TestNoRecordWithoutASeal(t *testing.T) {
	for _, probe := range []string{"", "null", `"sealed"`, "[]"} {
		b := sample()
		b.Seal = json.RawMessage(probe)
		if err := NewRecord(b).Validate(); err == nil || !strings.Contains(err.Error(), "belljar_run.seal") {
			t.Errorf("seal %q: %v", probe, err)
		}
	}
}

func TestPackageURL(t *testing.T) {
	for _, c := range []struct{ name, version, arch, want string }{
		{"make", "4.3-4.1", "amd64", "pkg:deb/debian/make@4.3-4.1?arch=amd64"},
		{"libstdc++6", "12.2.0-14+deb12u1", "i386", "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=i386"},
		{"login", "1:4.13+dfsg1-1", "amd64", "pkg:deb/debian/login@1%3A4.13%2Bdfsg1-1?arch=amd64"},
		{"coreboot", "4.15~dfsg-3", "source", "pkg:deb/debian/coreboot@4.15~dfsg-3?arch=source"},
	} {
		if got := PackageURL(c.name, c.version, c.arch); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestReadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(path, []byte("{\n\"_type\": 3\n}"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v: want an input fault with file and line", err)
	}
	if _, err := Read(path + ".absent"); fault.KindOf(err) != fault.Input {
		t.Errorf("absent: %v, want an input fault", err)
	}
}

func TestValidateNamesEverything(t *testing.T) {
	err := (&Record{}).Validate()
	if err == nil {
		t.Fatal("an empty record is valid")
	}
	for _, field := range []string{
		"_type", "subject", "predicateType", "buildType", "externalParameters.spec.name", "externalParameters.guest",
		"internalParameters.lock.digest.sha256", "machine.arch", "machine.clock", "builder.id", "builder.version.qemu",
		"metadata.invocationId", "metadata.startedOn", "belljar_build.image", "belljar_build.agent.digest.sha256",
		"belljar_build.stages", "belljar_run.host.os", "belljar_run.backend.name", "belljar_run.accelerator.name", "belljar_run.seal",
	} {
		if !strings.Contains(err.Error(), field+":") {
			t.Errorf("nothing is said of %s", field)
		}
	}
}

func TestCheckArtifact(t *testing.T) {
	dir := t.TempDir()
	rom := []byte("a ROM\n")
	path := filepath.Join(dir, "bios-256k.bin")
	if err := os.WriteFile(path, rom, 0o644); err != nil {
		t.Fatal(err)
	}
	r := NewRecord(sample())
	err := CheckArtifact(r, path)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "the record says "+sum("a0")) {
		t.Errorf("other bytes under a subject's name: %v", err)
	}
	renamed := filepath.Join(dir, "renamed.rom")
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	if err := CheckArtifact(r, renamed); err == nil || !strings.Contains(err.Error(), "none of the record's artifacts: bios-256k.bin") {
		t.Errorf("unknown file: %v", err)
	}
	if err := CheckArtifact(r, path); fault.KindOf(err) != fault.Input {
		t.Errorf("absent file: %v", err)
	}
	digest := sha256.Sum256(rom)
	r.Subject = append(r.Subject, Resource{Name: "second.rom", Digest: Digest{SHA256: hex.EncodeToString(digest[:])}})
	if err := CheckArtifact(r, renamed); err != nil {
		t.Errorf("a subject's bytes under another name: %v", err)
	}
}

// FuzzReadRecord: whatever Parse takes, it writes again as the same bytes, and nothing makes it panic.
func FuzzReadRecord(f *testing.F) {
	good, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	f.Add([]byte(`{"subject":[{"digest":null}],"predicate":{"belljar_run":{"seal":[1e400,"\ud800"]}}}`))
	f.Add(bytes.Repeat([]byte("["), 200))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		once, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		twice, err := again.Marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("two forms of one record: %v\n%s", err, cmp.Diff(string(once), string(twice)))
		}
		if len(Compare(r, again)) != 0 || r.Claim() != again.Claim() {
			t.Error("a record differs from itself")
		}
	})
}
