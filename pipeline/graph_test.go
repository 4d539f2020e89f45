package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// toolSpec is a toolchain: of its four stages others need 'tool' alone, and so 'base'.
const toolSpec = `name: kit/tool
guests: [debian-bookworm-x86_64]
sources: []
stages:
  - {name: check, needs: [tool], script: make check, outputs: [checked]}
  - {name: tool, needs: [base], packages: [gcc], script: make tool, outputs: [cc]}
  - {name: base, script: make base, outputs: [as]}
  - {name: docs, script: make docs, outputs: [book]}
artifacts:
  - {name: cc, stage: tool, path: cc}
smoke: []
`

// needingSpec is the toy with a toolchain of another spec.
var needingSpec = strings.Replace(testSpec, "needs: [tool]", "needs: [tool, kit.yaml#base, kit.yaml#tool]", 1)

// needingJob is a build of it.
func (h *house) needingJob(t *testing.T) *job {
	t.Helper()
	dir := t.TempDir()
	h.locked(t, filepath.Join(dir, "kit.yaml"), toolSpec)
	spec := strings.ReplaceAll(needingSpec, "name: tool", "name: own")
	spec = strings.ReplaceAll(spec, "[tool,", "[own,")
	h.locked(t, filepath.Join(dir, "toy.yaml"), spec)
	return h.jobOf(t, filepath.Join(dir, "toy.yaml"))
}

func (h *house) jobOf(t *testing.T, path string) *job {
	t.Helper()
	p, err := makePlan(path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	o := BuildOptions{Spec: path, Out: filepath.Join(t.TempDir(), "out"), Accel: vm.TCG, Offline: true}
	j, err := h.newJob(t.Context(), p, o, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if j.run, err = h.runs.Create(t.Context(), "build toy"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.run.Finish(vm.Failed, nil) }) // what the test has not finished itself
	return j
}

func names(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.name())
	}
	return strings.Join(all, " ")
}

func TestGrow(t *testing.T) {
	stage := func(name string, needs ...string) specs.Stage { return specs.Stage{Name: name, Needs: needs} }
	for _, c := range []struct {
		name   string
		stages []specs.Stage
		want   string
	}{
		{"as written", []specs.Stage{stage("b"), stage("a")}, "b a"},
		{"needed first", []specs.Stage{stage("rom", "tool"), stage("tool")}, "tool rom"},
		{"diamond", []specs.Stage{stage("d", "b", "c"), stage("c", "a"), stage("b", "a"), stage("a")}, "a b c d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := newHouse(t, fake.Script{})
			j := h.toyJob(t, toyROM)
			j.asked.loaded.Spec.Stages, j.nodes = c.stages, nil
			j.grow()
			if got := names(j.nodes); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("across specs", func(t *testing.T) {
		h, _ := newHouse(t, fake.Script{})
		j := h.needingJob(t)
		if got := names(j.nodes); got != "own kit/tool#base kit/tool#tool rom" {
			t.Errorf("got %q: only what is needed of another spec is built", got)
		}
		if got := names(j.own()); got != "own rom" {
			t.Errorf("its own: %q", got)
		}
		if j.nodes[1].jar != j.nodes[2].jar || j.nodes[1].jar == j.asked || j.nodes[1].imageID == j.asked.imageID {
			t.Error("a needed spec's stages have an image of their own, one for all of them")
		}
		if got := j.nodes[2].logName(); got != "stage-kit@tool@tool.log" {
			t.Errorf("log %s", got)
		}
	})
}

// TestRecall: what is known and what must be run, and why.
func TestRecall(t *testing.T) {
	all := map[string]string{"own": "a tool", "rom": toyROM, "kit/tool#base": "an assembler", "kit/tool#tool": "a compiler"}
	for name, c := range map[string]struct {
		unknown string   // the stages that were never built
		lost    []string // outputs that the store has lost
		noCache bool
		want    string
	}{
		"all known":                        {"", nil, false, ""},
		"nothing known":                    {"own rom kit/tool#base kit/tool#tool", nil, false, "own kit/tool#base kit/tool#tool rom"},
		"the ROM's script changed":         {"rom", nil, false, "rom"},
		"lost, and nobody wants it":        {"", []string{"a compiler", "an assembler"}, false, ""},
		"lost, and the ROM needs it":       {"rom", []string{"a compiler"}, false, "kit/tool#tool rom"},
		"lost, with all that it is of":     {"rom", []string{"a compiler", "an assembler"}, false, "kit/tool#base kit/tool#tool rom"},
		"a tool that only a known one has": {"", []string{"a tool"}, false, "own"},
		"no cache":                         {"", nil, true, "own kit/tool#base kit/tool#tool rom"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newHouse(t, fake.Script{})
			j := h.needingJob(t)
			j.opts.NoCache = c.noCache
			known := map[string]string{}
			for n, out := range all {
				if !strings.Contains(" "+c.unknown+" ", " "+n+" ") {
					known[n] = out
				}
			}
			h.made(t, j, known)
			for _, text := range c.lost {
				if err := os.Remove(h.store.Path(digestOf([]byte(text)))); err != nil {
					t.Fatal(err)
				}
			}
			if err := j.recall(); err != nil {
				t.Fatal(err)
			}
			if got := names(j.toRun()); got != c.want {
				t.Errorf("to be run: %q, want %q", got, c.want)
			}
		})
	}
}

// TestBuildWithNeeds: of a build whose stages are all known the record holds the needed spec, and no image is looked at.
func TestBuildWithNeeds(t *testing.T) {
	h, said := newHouse(t, fake.Script{Lines: fake.Say("hello"), End: fake.Stays})
	j := h.needingJob(t)
	h.made(t, j, map[string]string{"own": "a tool", "rom": toyROM, "kit/tool#base": "an assembler", "kit/tool#tool": "a compiler"})
	for _, r := range j.jars {
		if err := h.store.Unbind("images", r.imageID); err != nil {
			t.Fatal(err)
		}
	}
	res, err := j.work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(h.backend.(fakeVMs).Started()); n != 1 {
		t.Errorf("%d machines were started, want that of the smoke test", n)
	}
	for _, want := range []string{"stage own: nothing changed", "stage kit/tool#tool: nothing changed"} {
		if !strings.Contains(said.texts(Note), want) {
			t.Errorf("%q is not said:\n%s", want, said.texts(Note))
		}
	}
	data, err := os.ReadFile(res.Record)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := verify.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	locks := rec.Predicate.BuildDefinition.InternalParameters.NeededLocks
	if len(locks) != 1 || locks[0].Name != "kit/tool.lock.json" || locks[0].Digest.SHA256 != j.asked.lock.Needs[0].Lock {
		t.Errorf("locks of needed specs: %+v", locks)
	}
	e := rec.Predicate.BuildEvidence
	if len(e.NeededImages) != 4 || e.NeededImages[3].Name != "kit/tool: root hash (dm-verity)" {
		t.Errorf("images of needed specs: %+v", e.NeededImages)
	}
	var stages []string
	for _, s := range e.Stages {
		stages = append(stages, s.Name)
	}
	if got := strings.Join(stages, " "); got != "own kit/tool#base kit/tool#tool rom" {
		t.Errorf("stages: %s", got)
	}
	inputs := map[string]int{}
	for _, in := range rec.Predicate.BuildDefinition.ResolvedDependencies {
		inputs[in.Name]++
	}
	if inputs["gcc_1_amd64.deb"] != 1 || inputs["busybox-static_1_amd64.deb"] != 1 || len(inputs) != 3 {
		t.Errorf("inputs: %v", inputs)
	}
}

// TestSourcesNarrow: what a stage does not see does not count for it.
func TestSourcesNarrow(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	j := h.toyJob(t, toyROM)
	n := j.stage("rom")
	id := func(see []string, sources ...specs.LockedSource) string {
		n.lock.Sources, n.stage.Sources = sources, see
		n.identify()
		return n.id
	}
	a, b := specs.LockedSource{Name: "a", Version: "1"}, specs.LockedSource{Name: "b", Version: "1"}
	b2 := specs.LockedSource{Name: "b", Version: "2"}
	if id([]string{"a"}, a, b) != id([]string{"a"}, a, b2) {
		t.Error("a source that is not seen counts")
	}
	if id([]string{"a", "b"}, a, b) != id(nil, a, b) {
		t.Error("all, and all by name, are not the same")
	}
	if id([]string{}, a, b) != id(nil, []specs.LockedSource{}...) {
		t.Error("an empty list is not none")
	}
	if id([]string{"b"}, a, b) == id([]string{"b"}, a, b2) {
		t.Error("a source that is seen does not count")
	}
}

// TestNeedsAreFetched: what a needed spec's lock pins is fetched and missed like the asked one's own.
func TestNeedsAreFetched(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	j := h.needingJob(t)
	h.made(t, j, map[string]string{"own": "a tool"})
	if err := os.Remove(h.store.Path(digestOf([]byte("the package gcc")))); err != nil {
		t.Fatal(err)
	}
	_, err := j.work(t.Context())
	wantFault(t, err, fault.Input, "the store lacks 1 of 3 files", "gcc_1_amd64.deb")
	if n := len(h.backend.(fakeVMs).Started()); n != 0 {
		t.Errorf("%d machines were started before all was there", n)
	}
}
