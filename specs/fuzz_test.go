package specs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/belljar/belljar/fault"
)

// The parsers of foreign bytes either return a value that can be relied upon, or an input fault with a place; they never panic.

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(romSpec))
	addFiles(f, "shipped/*/*.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSpec("fuzz.yaml", data)
		checkParsed(t, s != nil, err)
		if s == nil {
			return
		}
		l := &Loaded{Spec: s, names: s.Guests}
		if len(l.Digest()) != 64 || len(l.Sections()) == 0 {
			t.Error("a spec that was accepted has no digest")
		}
	})
}

func FuzzParseGuest(f *testing.F) {
	f.Add([]byte(pcGuest))
	addFiles(f, "shipped/guests/*.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGuest("fuzz.yaml", data)
		checkParsed(t, g != nil, err)
		if g != nil && (g.Memory%MiB != 0 || g.CPUs < 1 || g.Clock.Year() < 1980) {
			t.Errorf("accepted: %+v", g)
		}
	})
}

func FuzzParseLock(f *testing.F) {
	addFiles(f, "testdata/*.lock.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock("fuzz.lock.json", data)
		checkParsed(t, l != nil, err)
		if l == nil {
			return
		}
		// What was accepted has one form, and that is accepted again.
		out := l.Marshal()
		again, err := ParseLock("again.lock.json", out)
		if err != nil {
			t.Fatalf("what Marshal wrote is refused: %s", report(err))
		}
		if !bytes.Equal(again.Marshal(), out) {
			t.Error("Marshal is not stable")
		}
	})
}

func addFiles(f *testing.F, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds at %s: %v", pattern, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func checkParsed(t *testing.T, accepted bool, err error) {
	t.Helper()
	if accepted == (err != nil) {
		t.Errorf("accepted: %v, error: %v", accepted, err)
	}
	if err != nil && fault.KindOf(err) != fault.Input {
		t.Errorf("not an input fault: %v", err)
	}
}
