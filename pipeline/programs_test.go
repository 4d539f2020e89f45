package pipeline

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm/fake"
)

// tarRoot is a root with two programs, one of them of a package.
func tarRoot(t *testing.T) []byte {
	t.Helper()
	return tarBytes(t, []tarFile{
		{"usr/bin/make", "make", 0o755},
		{"usr/bin/of-no-package", "stray", 0o755},
		{"var/lib/dpkg/status", "Package: make\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.3-4.1\n", 0o644},
		{"var/lib/dpkg/info/make.list", "/.\n/usr\n/usr/bin\n/usr/bin/make\n", 0o644},
	})
}

type tarFile struct {
	name, text string
	mode       int64
}

func tarBytes(t *testing.T, files []tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.text)), Mode: f.mode}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digestText(text string) string { return string(digestOf([]byte(text))) }

// needingNode is the stage 'rom', which needs stages of two specs; all that it needs is known.
func needingNode(t *testing.T) (*node, *heard) {
	t.Helper()
	h, said := newHouse(t, fake.Script{})
	j := h.needingJob(t)
	h.made(t, j, map[string]string{"own": "a tool", "kit/tool#base": "an assembler", "kit/tool#tool": "a compiler"})
	if err := j.recall(); err != nil {
		t.Fatal(err)
	}
	n := j.stage("rom")
	root := tarRoot(t)
	d, err := h.store.PutBytes(root)
	if err != nil {
		t.Fatal(err)
	}
	n.image = builtImage{Root: d, Size: int64(len(root))}
	return n, said
}

func TestPrograms(t *testing.T) {
	n, said := needingNode(t)
	other := strings.Repeat("5", 64)
	got, err := n.programs(t.Context(), &wire.Programs{
		List: []wire.Program{
			{Path: "/usr/bin/make", From: wire.FromRoot, Runs: 3},
			{Path: "/usr/bin/of-no-package", From: wire.FromRoot, Runs: 1},
			{Path: "/build/stages/tool/bin/cc", From: wire.FromInput, SHA256: other, Runs: 2},
			{Path: "/build/work/copy", From: wire.FromMade, SHA256: digestText("an assembler"), Runs: 1},
			{Path: "/build/sources/toy/configure", From: wire.FromInput, SHA256: other, Runs: 1},
			{Path: "/build/sources/toy/conf", From: wire.FromMade, SHA256: other, Runs: 4},
			{Path: "/build/work/conftest", From: wire.FromMade, Runs: 9},
		},
		Lost: 2, Unlisted: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(text string) verify.Digest { return verify.Digest{SHA256: digestText(text)} }
	others := verify.Digest{SHA256: other}
	want := &verify.Programs{Lost: 2, Unlisted: 1, List: []verify.Program{
		{Path: "/build/sources/toy/conf", Digest: others, From: verify.FromMade, Runs: 4},
		{Path: "/build/sources/toy/configure", Digest: others, From: verify.FromSource, Of: "toy", Runs: 1},
		{Path: "/build/stages/tool/bin/cc", Digest: others, From: verify.FromStage, Of: "kit/tool#tool", Runs: 2},
		{Path: "/build/work/conftest", From: verify.FromMade, Runs: 9},
		{Path: "/build/work/copy", Digest: digest("an assembler"), From: verify.FromStage, Of: "kit/tool#base", Runs: 1},
		{Path: "/usr/bin/make", Digest: digest("make"), From: verify.FromPackage, Of: "pkg:deb/debian/make@4.3-4.1?arch=amd64", Runs: 3},
		{Path: "/usr/bin/of-no-package", Digest: digest("stray"), From: verify.FromImage, Runs: 1},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(said.texts(Warning), "has gaps: the guest's kernel could not tell 2 times") {
		t.Errorf("warnings: %q", said.texts(Warning))
	}
	_, err = n.programs(t.Context(), &wire.Programs{List: []wire.Program{{Path: "/usr/bin/hidden", From: wire.FromRoot, Runs: 1}}})
	wantFault(t, err, fault.Guest, "its root does not have", "/usr/bin/hidden")
}

// A toolchain whose programs were copied together is that of the stages that made them.
func TestProgramsCopiedOutOfFolders(t *testing.T) {
	n, _ := needingNode(t)
	folder, err := n.store.PutBytes(tarBytes(t, []tarFile{{"bin/ld", "a linker", 0o755}, {"share/hello", "a text", 0o644}}))
	if err != nil {
		t.Fatal(err)
	}
	need := n.needs[len(n.needs)-1]
	need.result.Outputs = append(need.result.Outputs, stageOutput{Path: "kit/", Digest: folder})
	ran := &wire.Programs{List: []wire.Program{
		{Path: "/build/work/kit/bin/ld", From: wire.FromMade, SHA256: digestText("a linker"), Runs: 2},
		{Path: "/build/work/hello", From: wire.FromMade, SHA256: digestText("a text"), Runs: 1}, // it became a program here
	}}
	got, err := n.programs(t.Context(), ran)
	if err != nil {
		t.Fatal(err)
	}
	want := []verify.Program{
		{Path: "/build/work/hello", Digest: verify.Digest{SHA256: digestText("a text")}, From: verify.FromMade, Runs: 1},
		{Path: "/build/work/kit/bin/ld", Digest: verify.Digest{SHA256: digestText("a linker")}, From: verify.FromStage, Of: need.name(), Runs: 2},
	}
	if diff := cmp.Diff(want, got.List); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(n.store.Path(folder)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.programs(t.Context(), ran); err == nil {
		t.Error("the folder is gone from the store, and nothing is said of it")
	}
}

func TestCheckStrict(t *testing.T) {
	made := func(path string) verify.Program {
		return verify.Program{Path: path, Digest: verify.Digest{SHA256: strings.Repeat("5", 64)}, From: verify.FromMade, Runs: 1}
	}
	pinned := verify.Program{Path: "/usr/bin/make", Digest: verify.Digest{SHA256: strings.Repeat("6", 64)}, From: verify.FromPackage, Runs: 1}
	for _, c := range []struct {
		name  string
		ran   *verify.Programs
		makes []string
		want  []string // what the error speaks of; none: no error
	}{
		{"nothing but packages", &verify.Programs{List: []verify.Program{pinned}}, nil, nil},
		{
			"one of its own", &verify.Programs{List: []verify.Program{made("/build/work/conf"), pinned}}, nil,
			[]string{"strict: stage rom: /build/work/conf (sha256 5555", "no locked package", "makes: [conf]"},
		},
		{"declared", &verify.Programs{List: []verify.Program{made("/build/work/conf")}}, []string{"conf"}, nil},
		{
			"declared, but another", &verify.Programs{List: []verify.Program{made("/build/work/conf"), made("/tmp/miner")}}, []string{"conf"},
			[]string{"/tmp/miner", "makes: [miner]"},
		},
		{
			"too many to list", &verify.Programs{List: []verify.Program{{Path: "/build/x", From: verify.FromMade, Runs: 9}}}, nil,
			[]string{"/build/x (sha256 (more contents))"},
		},
		{"unlisted", &verify.Programs{Unlisted: 3}, []string{"*"}, []string{"3 runs are of unlisted ones"}},
		{"gaps", &verify.Programs{Lost: 1}, []string{"*"}, []string{"the guest's kernel could not tell 1 times"}},
		{"not recorded", nil, nil, []string{"it is not known which programs ran", "--strict --no-cache"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, _ := needingNode(t)
			stage := *n.stage
			stage.Makes = c.makes
			n.stage, n.result = &stage, &stageResult{Programs: c.ran}
			err := n.checkStrict()
			if len(c.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			for _, e := range fault.Chain(err) {
				if e.Remedy != "" {
					err = fault.New(e.Kind, "", "%w; %s", err, e.Remedy)
				}
			}
			wantFault(t, err, fault.Build, c.want...)
		})
	}
}

func TestDeclared(t *testing.T) {
	for _, c := range []struct {
		pattern, program string
		want             bool
	}{
		{"conf", "/build/sources/seabios/scripts/kconfig/conf", true},
		{"kconfig/conf", "/build/sources/seabios/scripts/kconfig/conf", true},
		{"scripts/conf", "/build/sources/seabios/scripts/kconfig/conf", false},
		{"conftest*", "/build/work/conftest12", true},
		{"conftest*", "/build/work/conftest/evil", false},
		{"*", "/build/anything", true},
		{"a/b/c/d", "/b/c/d", false},
		{"on", "/build/conf", false},
	} {
		if got := declared([]string{"other", c.pattern}, c.program); got != c.want {
			t.Errorf("%s for %s: %v", c.pattern, c.program, got)
		}
	}
}

func TestRan(t *testing.T) {
	n, _ := needingNode(t)
	of := func(p ...verify.Program) *verify.Programs { return &verify.Programs{List: p} }
	pkg := func(path, of string, runs int64) verify.Program {
		return verify.Program{Path: path, From: verify.FromPackage, Of: of, Runs: runs}
	}
	mine := verify.Program{Path: "/build/conf", From: verify.FromMade, Runs: 1}
	n.result = &stageResult{Programs: of(pkg("/bin/a", "one", 3), pkg("/bin/b", "one", 1), mine)}
	if got := n.ran(); got != nil {
		t.Errorf("stages that were not recorded: %+v", got)
	}
	for _, other := range n.nodes {
		if other != n {
			other.result.Programs = of(pkg("/bin/a", "one", 7), pkg("/bin/c", "two", 1))
		}
	}
	if got, want := *n.ran(), (Ran{Programs: 4, Packages: 2, Made: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
