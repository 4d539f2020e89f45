package integration

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// buildToolchain builds a shipped toolchain, or finds it built, and returns the digests that it hands over: of its
// files, by name. What it compiles was run in the guest and was the same twice: its stage 'smoke' sees to that.
func buildToolchain(t *testing.T, spec, guest string) (text string, digests map[string]string) {
	t.Helper()
	r, took := onShared(t).built(spec, "--guest", guest)
	t.Logf("%s in %s: cached %v, under %s, took %s", spec, guest, r.Cached, r.Accel, took)
	for _, a := range r.Artifacts {
		if a.Name == "digests" {
			data, err := os.ReadFile(a.Path)
			must(t, err)
			return string(data), parseDigests(t, string(data))
		}
	}
	t.Fatalf("artifacts: %+v, want digests", r.Artifacts)
	return "", nil
}

// parseDigests reads what sha256sum writes.
func parseDigests(t *testing.T, text string) map[string]string {
	t.Helper()
	digests := map[string]string{}
	for line := range strings.Lines(text) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || len(sum) != 64 {
			t.Fatalf("digests: %q is no line of sha256sum", line)
		}
		digests[name] = sum
	}
	return digests
}

// A seed of less than a megabyte builds a C library and a compiler, these build themselves, then a shell and tools, and
// with those themselves once more. All generations are the same, and the same as on the machine where they were first
// made.
func TestSlowBootstrap(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("compiles a C library three times; asked for by BELLJAR_SLOW=1")
	}
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) {
			text, digests := buildToolchain(t, "bootstrap/tcc-musl", guest)
			for _, file := range []string{"root/bin/tcc", "root/lib/libc.a"} {
				third := digests["generation-3/"+file]
				for _, g := range []string{"generation-1/", "generation-2/"} {
					if third == "" || digests[g+file] != third {
						t.Errorf("%s of %s is %q, of generation-3/ %q", file, g, digests[g+file], third)
					}
				}
			}
			golden(t, "tcc-musl."+guest+".digests", text)
		})
	}
}

// The toolchains that take hours to build under TCG. An interrupted night goes on where it stopped: what was built
// stays in the shared store.
func TestLongToolchains(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_LONG") != "1" {
		t.Skip("builds gcc three times; asked for by BELLJAR_LONG=1")
	}
	for _, tc := range []struct {
		name  string
		known bool // what comes out is in testdata
	}{
		{"i686-linux-musl", true}, {"x86_64-linux-musl", true}, {"i386-elf", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, digests := buildToolchain(t, "toolchains/"+tc.name, guest64)
			compiler := "toolchain/bin/" + tc.name + "-gcc"
			if digests[compiler] == "" {
				t.Errorf("no %s among %d files", compiler, len(digests))
			}
			if tc.known {
				golden(t, tc.name+"."+guest64+".digests", withoutTexts(text))
			}
		})
	}
}

// withoutTexts leaves out of digests the headers and linker scripts, of which there are a thousand.
func withoutTexts(digests string) string {
	var b strings.Builder
	for line := range strings.Lines(digests) {
		if !strings.Contains(line, "/include/") && !strings.Contains(line, "/include-fixed/") && !strings.Contains(line, "/ldscripts/") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// golden holds a text against the file of testdata that has it, or rewrites that file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "toolchains", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
