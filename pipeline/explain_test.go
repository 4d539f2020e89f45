package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm/fake"
)

func TestScriptDiff(t *testing.T) {
	many := strings.Repeat("line\n", 10)
	for name, c := range map[string]struct {
		old, new string
		line     int
		want     string
	}{
		"a line":        {"a\nb\nc\nd\n", "a\nb\nC\nd\n", 3, " a\n b\n-c\n+C\n"},
		"a line more":   {"a\nc\n", "a\nb\nc\n", 2, " a\n+b\n"},
		"a line less":   {"a\nb\nc\n", "a\nc\n", 2, " a\n-b\n"},
		"from the top":  {"a\n", "b\n", 1, "-a\n+b\n"},
		"the last line": {"a\nb", "a\nb\n", 3, " a\n b\n+\n"},
		"much":          {"a\n" + many, "a\nb\n", 2, " a\n-line\n-line\n-line\n-line\n-… and 6 more lines\n+b\n"},
		"repeated":      {"x\nx\n", "x\nx\nx\n", 3, " x\n x\n+x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if line, got := scriptDiff(c.old, c.new); line != c.line || got != c.want {
				t.Errorf("line %d, want %d:\n%s", line, c.line, got)
			}
		})
	}
}

// built makes all stages of a job known as if they had been built.
func (h *house) built(t *testing.T, j *job) {
	t.Helper()
	all := map[string]string{}
	for _, n := range j.nodes {
		all[n.name()] = "made by " + n.name()
	}
	h.made(t, j, all)
	for _, n := range j.nodes {
		known, _, err := h.knownStage(n.id)
		if err != nil || known == nil {
			t.Fatal(n.name(), err)
		}
		known.Of, known.Inputs, n.result = n.of(), n.inputs(), known
		if err := n.remember(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExplain: of each stage, whether it would run, and what changed since it last did.
func TestExplain(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	j := h.needingJob(t)
	path := j.asked.loaded.Path
	kit := filepath.Join(filepath.Dir(path), "kit.yaml")
	explain := func(o BuildOptions) string {
		t.Helper()
		o.Spec = path
		x, err := Explain(t.Context(), h.Config, o)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range x.Stages {
			state := "run"
			if s.Cached {
				state = "cached"
			}
			b.WriteString(s.Name + " " + state + ": " + s.Reason + "\n")
		}
		return b.String()
	}
	edit := func(file, old, new string) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), old) {
			t.Fatalf("%s has no %q", file, old)
		}
		h.locked(t, file, strings.Replace(string(data), old, new, 1))
	}
	want := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n%swant:\n%s", name, got, want)
		}
	}
	never := ": it was never built in this guest\n"
	want("nothing known", explain(BuildOptions{}),
		"own run"+never+"kit/tool#base run"+never+"kit/tool#tool run"+never+"rom run"+never)
	h.built(t, j)
	cached := " cached: nothing changed\n"
	want("all known", explain(BuildOptions{}), "own"+cached+"kit/tool#base"+cached+"kit/tool#tool"+cached+"rom"+cached)
	want("one is to run", explain(BuildOptions{Rerun: []string{"kit/tool#tool"}}),
		"own"+cached+"kit/tool#base"+cached+"kit/tool#tool run: asked for with --no-cache\nrom"+cached)

	edit(path, "script: make", "script: make all") // the ROM's comes first
	want("the ROM's script", explain(BuildOptions{}),
		"own"+cached+"kit/tool#base"+cached+"kit/tool#tool"+cached+"rom run: script: line 1 differs\n")
	edit(kit, "script: make base", "env: {V: \"1\"}, script: make base")
	h.locked(t, path, strings.Replace(readText(t, path), "script: make all", "script: make", 1))
	want("a variable of what is needed", explain(BuildOptions{}),
		"own"+cached+"kit/tool#base run: env V 1 added\nkit/tool#tool run: needs kit/tool#base, which changed\n"+
			"rom run: needs kit/tool#base, which changed; needs kit/tool#tool, which changed\n")
	edit(kit, "env: {V: \"1\"}, script: make base", "script: make base")
	edit(kit, "packages: [gcc]", "packages: [gcc, bison]")
	h.locked(t, path, readText(t, path))
	want("a package of what is needed", explain(BuildOptions{}),
		"own"+cached+"kit/tool#base run: package bison 1 added\n"+
			"kit/tool#tool run: package bison 1 added; needs kit/tool#base, which changed\n"+
			"rom run: needs kit/tool#base, which changed; needs kit/tool#tool, which changed\n")
	if n := len(h.backend.(fakeVMs).Started()); n != 0 {
		t.Errorf("%d machines were started", n)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRerunOfNoStage(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	j := h.needingJob(t)
	j.opts.Rerun = []string{"own", "kit/tool#tol"}
	err := j.checkRerun()
	wantFault(t, err, fault.Usage, "--no-cache=kit/tool#tol: the build has no such stage")
	if c := fault.Chain(err); !strings.HasPrefix(c[0].Remedy, "did you mean kit/tool#tool?") {
		t.Errorf("remedy %q", c[0].Remedy)
	}
	j.opts.Rerun = []string{"toy#rom", "kit/tool#base"}
	if err := j.checkRerun(); err != nil {
		t.Error(err)
	}
}

// TestCompare: a stage that makes something else of the same is told aloud, and what needs it is run again.
func TestCompare(t *testing.T) {
	out := func(text string) *stageResult {
		return &stageResult{Outputs: []stageOutput{{Path: "as", Digest: store.Digest(text), Mode: 0o755}}}
	}
	for name, c := range map[string]struct {
		now  *stageResult
		says string
		must string
	}{
		"the same":    {out("1"), "made the same as before", ""},
		"other bytes": {out("2"), "kit/tool#base DID NOT MAKE THE SAME as before", "kit/tool#tool rom"},
	} {
		t.Run(name, func(t *testing.T) {
			h, said := newHouse(t, fake.Script{})
			j := h.needingJob(t)
			n := j.nodes[1]
			n.result = c.now
			n.compare(out("1"))
			if got := said.texts(Note) + said.texts(Warning); !strings.Contains(got, c.says) {
				t.Errorf("said %q", got)
			}
			if got := names(j.toRun()); got != c.must {
				t.Errorf("to be run: %q, want %q", got, c.must)
			}
		})
	}
}
