package specs

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

// TestShipped loads every shipped spec and guest, and every lock that is there; a file's name is its spec's name.
func TestShipped(t *testing.T) {
	if !slices.Contains(Shipped(), "roms/seabios") || len(ShippedGuests()) < 2 {
		t.Fatalf("shipped: %v, %v", Shipped(), ShippedGuests())
	}
	for _, name := range Shipped() {
		t.Run(name, func(t *testing.T) {
			l, err := Load(name)
			if err != nil {
				t.Fatal(report(err))
			}
			if l.Spec.Name != name || l.Path != "" {
				t.Errorf("named %s, path %q", l.Spec.Name, l.Path)
			}
			lock, err := LoadLock(l, "")
			if err != nil {
				if !strings.Contains(err.Error(), "no lock is shipped") {
					t.Error(report(err))
				}
				return
			}
			if err := lock.Matches(l); err != nil {
				t.Error(report(err))
			}
		})
	}
	for _, name := range ShippedGuests() {
		data, err := shipped.ReadFile("shipped/guests/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		g, err := ParseGuest(name, data)
		if err != nil {
			t.Errorf("%s: %s", name, report(err))
		} else if g.Name != name {
			t.Errorf("%s is named %s", name, g.Name)
		}
	}
}

// write makes files in a fresh folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadFile(t *testing.T) {
	dir := write(t, map[string]string{
		"board/rom.yaml": strings.Replace(romSpec, "[debian-bookworm-x86_64]", "[../guests/pc.yaml, debian-bookworm-x86_64]", 1),
		"guests/pc.yaml": pcGuest,
	})
	l, err := Load(filepath.Join(dir, "board/rom.yaml"))
	if err != nil {
		t.Fatal(report(err))
	}
	if g, err := l.Guest(""); err != nil || g.Name != "pc" {
		t.Errorf("the default guest: %v, %v", g, err)
	}
	if g, err := l.Guest("../guests/pc.yaml"); err != nil || g.Name != "pc" {
		t.Errorf("a guest by its reference: %v, %v", g, err)
	}
	if g, err := l.Guest("debian-bookworm-x86_64"); err != nil || g.Arch != ArchX86_64 {
		t.Errorf("a shipped guest: %v, %v", g, err)
	}
	_, err = l.Guest("mac")
	if e := fault.Chain(err); len(e) == 0 || e[0].Kind != fault.Usage || e[0].Remedy != "choose one of: pc, debian-bookworm-x86_64" {
		t.Errorf("an unknown guest: %v", report(err))
	}

	_, err = LoadLock(l, "")
	if e := fault.Chain(err); len(e) == 0 || e[0].Kind != fault.Input || e[0].Remedy != "make it: belljar lock "+l.Path {
		t.Errorf("a lock that is not there: %v", report(err))
	}
	if want := filepath.Join(dir, "board/rom.lock.json"); l.LockPath() != want {
		t.Errorf("the lock stands at %s, want %s", l.LockPath(), want)
	}
	lock := sampleLock(t, loadSeabios(t))
	if err := lock.WriteFile(l.LockPath()); err != nil {
		t.Fatal(err)
	}
	got, err := LoadLock(l, "")
	if err != nil {
		t.Fatal(report(err))
	}
	if err := got.Matches(l); err == nil || !strings.Contains(err.Error(), "it was made for the spec roms/seabios") {
		t.Errorf("another spec's lock: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	spec := func(guests string) map[string]string {
		return map[string]string{"rom.yaml": strings.Replace(romSpec, "[debian-bookworm-x86_64]", guests, 1), "pc.yaml": pcGuest,
			"same.yaml": pcGuest, "bad.yaml": "name: x\n"}
	}
	for name, tc := range map[string]struct {
		files map[string]string
		load  string
		want  []string // in this order
	}{
		"unknown shipped": {nil, "seabois", []string{`no shipped spec "seabois"`, `did you mean "seabios"`, "./seabois.yaml"}},
		"no file":         {nil, "./rom.yaml", []string{"there is no file", "rom.yaml"}},
		"a folder":        {map[string]string{"rom.yaml/x": ""}, "./rom.yaml", []string{"is not a file"}},
		"bad spec":        {map[string]string{"rom.yaml": "name: x\n"}, "rom.yaml", []string{"rom.yaml:1:1: missing: guests"}},
		"unknown guest":   {spec("[debian-bookworm-i868]"), "./rom.yaml", []string{"rom.yaml:2:10: guests[0]: ", `"debian-bookworm-i868"`, `did you mean "debian-bookworm-i686"`}},
		"guest not there": {spec("[./mac.yaml]"), "./rom.yaml", []string{"rom.yaml:2:10: guests[0]: there is no file", "mac.yaml"}},
		"guest bad":       {spec("[./bad.yaml]"), "./rom.yaml", []string{"read guest spec", "bad.yaml:1:1: missing: arch"}},
		"two of one name": {spec("[./pc.yaml, ./same.yaml]"), "./rom.yaml", []string{"rom.yaml:2:21: guests[1]: ", `second guest of the name "pc"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, tc.files)
			t.Chdir(dir)
			_, err := Load(tc.load)
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("not an input fault: %v", err)
			}
			text := report(err)
			for _, want := range tc.want {
				_, rest, ok := strings.Cut(text, want)
				if !ok {
					t.Fatalf("%q is not in what is left of the report:\n%s", want, report(err))
				}
				text = rest
			}
		})
	}
}

// TestTagsAgree: one name and one optionality of a field, in YAML and in JSON; the decoder reads only one of the tags.
func TestTagsAgree(t *testing.T) {
	for _, v := range []any{Spec{}, Source{}, Stage{}, Artifact{}, Smoke{}, Guest{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			if f := typ.Field(i); f.Tag.Get("yaml") != f.Tag.Get("json") || f.Tag.Get("json") == "" {
				t.Errorf("%s.%s: %s", typ.Name(), f.Name, f.Tag)
			}
		}
	}
}

func TestDigest(t *testing.T) {
	tidy := strings.ReplaceAll(romSpec, "    memory", "\n    # a comment\n    cpu: "+DefaultSmokeCPU+"\n    memory")
	digests := map[string]string{}
	for name, text := range map[string]string{
		"same": romSpec, "laid out otherwise": tidy, "described": romSpec + "description: x\n",
		"another script": strings.Replace(romSpec, "script: make", "script: make all", 1),
	} {
		dir := write(t, map[string]string{"rom.yaml": text})
		l, err := Load(filepath.Join(dir, "rom.yaml"))
		if err != nil {
			t.Fatal(report(err))
		}
		digests[name] = l.Digest()
	}
	if digests["same"] != digests["laid out otherwise"] || digests["same"] != digests["described"] {
		t.Errorf("layout, defaults or descriptions count: %v", digests)
	}
	if digests["same"] == digests["another script"] {
		t.Error("a script does not count")
	}
	// Held, so that no change of this package makes every lock in the world stale unnoticed.
	if want := "8c6b895eccc2dc28d5976f8acd14cda192a40da608cf47078ac482216bc09aa6"; digests["same"] != want {
		t.Errorf("the digest of the same spec has become %s, was %s", digests["same"], want)
	}
}

func rewrite(t *testing.T, dir, name, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
