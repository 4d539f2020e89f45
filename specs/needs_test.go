package specs

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

// needing is a spec of one stage, 'make', that needs what is said.
func needing(name string, needs ...string) string {
	return strings.ReplaceAll(`name: NAME
guests: [debian-bookworm-x86_64]
sources: []
stages:
  - name: make
    needs: [`+strings.Join(needs, ", ")+`]
    script: make
    outputs: [NAME.bin]
artifacts:
  - {name: NAME.bin, stage: make, path: NAME.bin}
smoke: []
`, "NAME", name)
}

func TestParseNeed(t *testing.T) {
	for entry, want := range map[string]Need{
		"lib": {"", "lib"}, "a/b#lib": {"a/b", "lib"}, "./c#.yaml#lib": {"./c#.yaml", "lib"}, "#lib": {"", "lib"}, "a#": {"a", ""},
	} {
		if got := ParseNeed(entry); got != want {
			t.Errorf("%s: %+v", entry, got)
		}
	}
}

// TestLoadNeeds: paths are relative to the file that they stand in, and a spec that two need is one.
func TestLoadNeeds(t *testing.T) {
	dir := write(t, map[string]string{
		"rom.yaml":        needing("rom", "tools/gcc.yaml#make", "./binutils.yaml#make2"),
		"tools/gcc.yaml":  needing("gcc", "../binutils.yaml#make2"),
		"binutils.yaml":   strings.ReplaceAll(needing("binutils", "seabios#build"), "make", "make2"),
		"other/copy.yaml": needing("rom", "../tools/gcc.yaml#make", "../binutils.yaml#make2"),
	})
	l, err := Load(filepath.Join(dir, "rom.yaml"))
	if err != nil {
		t.Fatal(report(err))
	}
	gcc, binutils := l.Needed["gcc"], l.Needed["binutils"]
	if gcc == nil || binutils == nil || len(l.Needed) != 2 || gcc.Needed["binutils"] != binutils {
		t.Fatalf("rom needs %v", slices.Collect(maps.Keys(l.Needed)))
	}
	if of, stage := l.Need("./binutils.yaml#make2"); of != binutils || stage.Name != "make2" {
		t.Errorf("means %v of %s", stage, of.Spec.Name)
	}
	if of, stage := binutils.Need("seabios#build"); of.Spec.Name != "roms/seabios" || of.Path != "" || stage.Name != "build" {
		t.Errorf("means %v of %s", stage, of.Spec.Name)
	}
	if of, stage := l.Need("make"); of != l || stage.Name != "make" {
		t.Errorf("means %v of %s", stage, of.Spec.Name)
	}
	// The same needs by other paths are the same needs.
	if other, err := Load(filepath.Join(dir, "other/copy.yaml")); err != nil || other.Digest() != l.Digest() {
		t.Errorf("another digest: %v", report(err))
	}
}

func TestLoadRefusesNeeds(t *testing.T) {
	pc := strings.Replace(pcGuest, "name: pc", "name: debian-bookworm-x86_64", 1)
	for name, c := range map[string]struct {
		files map[string]string
		want  string // as rom.yaml is loaded
	}{
		"ring of two": {map[string]string{"rom.yaml": needing("rom", "./b.yaml#make"), "b.yaml": needing("b", "./rom.yaml#make")},
			"b.yaml:6:13: stages[0].needs[0]: specs need each other in a ring: rom#make needs b#make, b#make needs rom#make"},
		"ring further on": {map[string]string{"rom.yaml": needing("rom", "./a.yaml#make"), "a.yaml": needing("a", "./b.yaml#make"),
			"b.yaml": needing("b", "./c.yaml#make"), "c.yaml": needing("c", "a.yaml#make")},
			"c.yaml:6:13: stages[0].needs[0]: specs need each other in a ring: a#make needs b#make, b#make needs c#make, c#make needs a#make"},
		"itself": {map[string]string{"rom.yaml": needing("rom", "./rom.yaml#make")},
			"rom.yaml:6:13: stages[0].needs[0]: ./rom.yaml#make is this spec itself: write make"},
		"unknown spec": {map[string]string{"rom.yaml": needing("rom", "seabois#build")},
			`rom.yaml:6:13: stages[0].needs[0]: there is no shipped spec "seabois": did you mean "seabios"?`},
		"no such file": {map[string]string{"rom.yaml": needing("rom", "tool.yaml#make")},
			"rom.yaml:6:13: stages[0].needs[0]: there is no file tool.yaml"},
		"unknown stage": {map[string]string{"rom.yaml": needing("rom", "seabios#bild")},
			`rom.yaml:6:13: stages[0].needs[0]: the spec roms/seabios has no stage "bild": did you mean "build"?`},
		"bad spec": {map[string]string{"rom.yaml": needing("rom", "b.yaml#make"), "b.yaml": needing("b", "lib")},
			`b.yaml:6:13: stages[0].needs[0]: there is no stage "lib": known are make`},
		"one name": {map[string]string{"rom.yaml": needing("rom", "b.yaml#make"), "b.yaml": needing("rom")},
			`rom.yaml:6:13: stages[0].needs[0]: b.yaml is a second spec of the name "rom", which rom.yaml has: each of those that a build needs has its own`},
		"guest not shared": {map[string]string{"rom.yaml": needing("rom", "b.yaml#make"),
			"b.yaml": strings.Replace(needing("b"), "x86_64", "i686", 1)},
			"rom.yaml:6:13: stages[0].needs[0]: b does not build in the guest debian-bookworm-x86_64, and a stage's needs run where it runs: " +
				"it builds in debian-bookworm-i686"},
		"another guest of its name": {map[string]string{"rom.yaml": needing("rom", "b.yaml#make"),
			"b.yaml": strings.Replace(needing("b"), "debian-bookworm-x86_64", "./pc.yaml", 1), "pc.yaml": pc},
			"rom.yaml:6:13: stages[0].needs[0]: b means another guest by the name debian-bookworm-x86_64: its arch, clock, cpu, kernel, memory, packages differs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(write(t, c.files))
			_, err := Load("rom.yaml")
			checkRefused(t, err, c.want)
		})
	}
}

// lockNeeding writes locks for the specs in a folder, needed ones first, and loads the last.
func lockNeeding(t *testing.T, dir string, names ...string) *Loaded {
	t.Helper()
	var l *Loaded
	for _, name := range names {
		var err error
		if l, err = Load(filepath.Join(dir, name)); err != nil {
			t.Fatal(report(err))
		}
		lock := sampleLock(t, l)
		lock.Sources = nil
		locks, err := LoadNeededLocks(l)
		if err == nil {
			err = lock.Pin(l, locks)
		}
		if err == nil {
			err = lock.WriteFile(l.LockPath())
		}
		if err != nil {
			t.Fatal(report(err))
		}
	}
	return l
}

func TestLocksOfNeeds(t *testing.T) {
	files := map[string]string{
		"rom.yaml": needing("rom", "gcc.yaml#make"), "gcc.yaml": needing("gcc", "binutils.yaml#make"), "binutils.yaml": needing("binutils"),
	}
	dir := write(t, files)
	l := lockNeeding(t, dir, "binutils.yaml", "gcc.yaml", "rom.yaml")
	locks, err := LoadLocks(l, "")
	if err != nil || len(locks) != 3 {
		t.Fatal(locks, report(err))
	}
	for name, version := range map[string]int{"binutils": 1, "gcc": 3, "rom": 3} {
		if locks[name].Version != version {
			t.Errorf("the lock of %s is of version %d, want the oldest that will do: %d", name, locks[name].Version, version)
		}
	}
	if n := locks["rom"].Needs; len(n) != 1 || n[0].Name != "gcc" || n[0].Lock != locks["gcc"].Digest() {
		t.Errorf("rom pins %+v", n)
	}

	change := func(t *testing.T, name string, alter func(*Lock)) {
		t.Helper()
		of, err := Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(report(err))
		}
		lock, err := LoadLock(of, "")
		if err != nil {
			t.Fatal(report(err))
		}
		alter(lock)
		if err := lock.WriteFile(of.LockPath()); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(t *testing.T, remedy string, want ...string) {
		t.Helper()
		_, err := LoadLocks(l, "")
		chain := fault.Chain(err)
		if len(chain) == 0 || chain[0].Kind != fault.Input || chain[len(chain)-1].Remedy != remedy {
			t.Fatalf("refused with %v", report(err))
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not speak of %q", err, w)
			}
		}
	}
	t.Run("a need's packages changed", func(t *testing.T) {
		change(t, "gcc.yaml", func(l *Lock) { l.Guests["debian-bookworm-x86_64"].Packages[0].Version = "12.5" })
		refused(t, "pin it as it is now: belljar lock "+filepath.Join(dir, "rom.yaml")+"; or take back the change of gcc",
			"the lock of gcc has changed since rom was locked", ": guests.debian-bookworm-x86_64")
	})
	t.Run("the lock of a need's need is gone", func(t *testing.T) {
		lockNeeding(t, dir, "gcc.yaml", "rom.yaml")
		dir := write(t, files)
		l = lockNeeding(t, dir, "binutils.yaml", "gcc.yaml", "rom.yaml")
		remove(t, dir, "binutils.lock.json")
		refused(t, "make it: belljar lock "+filepath.Join(dir, "binutils.yaml"), "there is no lock", "binutils.lock.json", "(gcc needs binutils)")
	})
	t.Run("a need's script changed", func(t *testing.T) {
		dir := write(t, files)
		lockNeeding(t, dir, "binutils.yaml", "gcc.yaml", "rom.yaml")
		rewrite(t, dir, "gcc.yaml", strings.Replace(files["gcc.yaml"], "script: make", "script: make all", 1))
		var err error
		if l, err = Load(filepath.Join(dir, "rom.yaml")); err != nil {
			t.Fatal(report(err))
		}
		refused(t, "make it anew: belljar lock "+filepath.Join(dir, "gcc.yaml"), "stages.make.script changed", "(rom needs gcc)")
		lockNeeding(t, dir, "gcc.yaml")
		refused(t, "pin it as it is now: belljar lock "+filepath.Join(dir, "rom.yaml")+"; or take back the change of gcc", ": spec")
	})
	t.Run("a lock that lacks a need", func(t *testing.T) {
		dir := write(t, files)
		l = lockNeeding(t, dir, "binutils.yaml", "gcc.yaml", "rom.yaml")
		lock, err := LoadLock(l, "")
		if err != nil {
			t.Fatal(report(err))
		}
		lock.Needs = nil
		if err := lock.WriteFile(l.LockPath()); err != nil {
			t.Fatal(err)
		}
		refused(t, "make it anew: belljar lock "+filepath.Join(dir, "rom.yaml"), "the lock lacks spec gcc")
	})
}

// TestNeedsAreNotResolved: a need that comes or goes changes what is pinned, and nothing that the archive knows.
func TestNeedsAreNotResolved(t *testing.T) {
	dir := write(t, map[string]string{"rom.yaml": needing("rom"), "gcc.yaml": needing("gcc")})
	lock, err := LoadLock(lockNeeding(t, dir, "gcc.yaml", "rom.yaml"), "")
	if err != nil {
		t.Fatal(report(err))
	}
	rewrite(t, dir, "rom.yaml", needing("rom", "gcc.yaml#make"))
	l, err := Load(filepath.Join(dir, "rom.yaml"))
	if err != nil {
		t.Fatal(report(err))
	}
	if err := lock.Matches(l); err == nil || !strings.Contains(err.Error(), "stages.make.needs added") {
		t.Errorf("matches: %v", err)
	}
	if NeedsResolve(lock, l) {
		t.Error("the archive would be asked")
	}
	locks, err := LoadNeededLocks(l)
	if err != nil {
		t.Fatal(report(err))
	}
	now := Restamp(lock, l)
	if err := now.Pin(l, locks); err != nil {
		t.Fatal(err)
	}
	if err := now.Matches(l); err != nil {
		t.Error(report(err))
	}
	if d := Diff(lock, now); len(d) != 1 || d[0].String() != "spec gcc "+locks["gcc"].Digest()[:12]+" added" {
		t.Errorf("differs by %v", d)
	}
}
