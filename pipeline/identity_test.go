package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// An identity is that of plain, sorted JSON: what stands in the stores of users must be found again.
func TestIdentityIsOfCanonicalJSON(t *testing.T) {
	got := identity(struct {
		What string
		Env  map[string]string
		N    []int
	}{"stage", map[string]string{"b": "2", "a": "1"}, []int{3}})
	sum := sha256.Sum256([]byte(`{"What":"stage","Env":{"a":"1","b":"2"},"N":[3]}`))
	if want := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// given is what identities are made from.
type given struct {
	guest   specs.Guest
	locked  specs.LockedGuest
	stage   specs.Stage
	sources []specs.LockedSource
	needs   []string
	agent   string
}

func newGiven() *given {
	return &given{
		guest: specs.Guest{
			Name: "g", Arch: "x86_64", Machine: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 2, Memory: 2 << 30,
			Scratch: 8 << 30, Clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		},
		locked: specs.LockedGuest{Packages: []specs.Package{
			{Name: "busybox-static", SHA256: "aa"}, {Name: "linux-image", SHA256: "bb", Kernel: true},
		}},
		stage: specs.Stage{
			Name: "build", Script: "make", Env: map[string]string{"V": "1"}, Outputs: []string{"rom"},
			Needs: []string{"tool"},
		},
		sources: []specs.LockedSource{{Name: "seabios", Files: []specs.File{{Name: "a.tar", SHA256: "cc"}}}},
		needs:   []string{"id of tool"},
		agent:   "dd",
	}
}

func (g *given) ids() (image, stage string) {
	image = imageIdentity(&g.guest, &g.locked, g.agent)
	return image, stageIdentity(&g.stage, image, &g.guest, g.sources, g.needs, g.agent)
}

func (g *given) inputs() stageInputs {
	p := &plan{guest: &g.guest, locked: &g.locked, lock: &specs.Lock{Sources: g.sources}}
	j := &jar{job: &job{agent: g.agent}, plan: p}
	j.asked = j
	n := &node{jar: j, stage: &g.stage}
	for i, id := range g.needs {
		n.needs = append(n.needs, &node{jar: j, stage: &specs.Stage{Name: g.stage.Needs[i]}, id: id})
	}
	return n.inputs()
}

func TestIdentityFollowsWhatCounts(t *testing.T) {
	image, stage := newGiven().ids()
	for _, c := range []struct {
		name         string
		change       func(g *given)
		image, stage bool // change with it
	}{
		{"nothing", func(*given) {}, false, false},
		{"guest's description", func(g *given) { g.guest.Description = "x" }, false, false},
		{"a package's role", func(g *given) { g.locked.Packages[0].Role = "x" }, false, false},
		{"arch", func(g *given) { g.guest.Arch = "i686" }, true, true},
		{"machine", func(g *given) { g.guest.Machine = "pc-q35-8.0" }, true, true},
		{"cpu", func(g *given) { g.guest.CPU = "Haswell-v1" }, true, true},
		{"cpus", func(g *given) { g.guest.CPUs = 1 }, true, true},
		{"memory", func(g *given) { g.guest.Memory++ }, true, true},
		{"scratch", func(g *given) { g.guest.Scratch++ }, true, true},
		{"clock", func(g *given) { g.guest.Clock = g.guest.Clock.Add(time.Second) }, true, true},
		{"package", func(g *given) { g.locked.Packages[0].SHA256 = "ab" }, true, true},
		{"kernel", func(g *given) { g.locked.Packages[1].SHA256 = "ab" }, true, true},
		{"kernel as a package", func(g *given) { g.locked.Packages[1].Kernel = false }, true, true},
		{"agent", func(g *given) { g.agent = "de" }, true, true},
		{"timeout", func(g *given) { g.stage.Timeout++ }, false, false},
		{"stage's name", func(g *given) { g.stage.Name = "x" }, false, true},
		{"script", func(g *given) { g.stage.Script = "make -j2" }, false, true},
		{"env", func(g *given) { g.stage.Env = map[string]string{"V": "2"} }, false, true},
		{"scratch", func(g *given) { g.stage.Scratch = specs.ScratchTmpfs }, false, true},
		{"a stage's memory", func(g *given) { g.stage.Memory = g.guest.Memory * 2 }, false, true},
		{"a stage's memory, the guest's", func(g *given) { g.stage.Memory = g.guest.Memory }, false, false},
		{"outputs", func(g *given) { g.stage.Outputs = append(g.stage.Outputs, "map") }, false, true},
		{"a need's identity", func(g *given) { g.needs[0] = "another" }, false, true},
		{"a source's digest", func(g *given) { g.sources[0].Files[0].SHA256 = "cd" }, false, true},
		{"no source", func(g *given) { g.sources = nil }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGiven()
			c.change(g)
			i, s := g.ids()
			if (i != image) != c.image {
				t.Errorf("image: changed is %t, want %t", i != image, c.image)
			}
			if (s != stage) != c.stage {
				t.Errorf("stage: changed is %t, want %t", s != stage, c.stage)
			}
			// Whatever changes an identity can be told.
			if told := newGiven().inputs().changed(g.inputs()); (len(told) > 0) != c.stage && c.name != "stage's name" {
				t.Errorf("told: %v", told)
			} else {
				t.Log(reasons(told))
			}
		})
	}
}

func TestBuildIdentity(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, path := h.toyPlan(t)
	idOf := func(o BuildOptions) string {
		t.Helper()
		o.Spec = path
		j, err := h.newJob(t.Context(), p, o, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return j.id
	}
	want := idOf(BuildOptions{})
	for name, o := range map[string]BuildOptions{
		"accelerator": {Accel: vm.KVM}, "folder": {Out: "elsewhere"}, "offline": {Offline: true}, "keep": {Keep: true},
	} {
		if got := idOf(o); got != want {
			t.Errorf("the %s changes the build's identity", name)
		}
	}
	h.Version = "1.1-test"
	if idOf(BuildOptions{}) == want {
		t.Error("Belljar's version does not count")
	}
}

func TestPinned(t *testing.T) {
	shared := specs.Package{Name: "tzdata", Version: "1", Arch: "all", SHA256: "a1", Size: 3, Pool: "pool/t.deb"}
	guest := func(at string, more ...specs.Package) *specs.LockedGuest {
		return &specs.LockedGuest{Release: specs.Release{Snapshot: at}, Packages: append(more, shared)}
	}
	l := &specs.Lock{Sources: []specs.LockedSource{
		{Name: "s", Kind: specs.KindDebian, Files: []specs.File{
			{Name: "s.dsc", SHA256: "b1", Size: 5, Pool: "pool/s.dsc"},
		}},
		{Name: "u", Kind: specs.KindURL, Files: []specs.File{
			{Name: "u.tar", SHA256: "b2", URL: "https://x/u.tar"},
		}},
		{Name: "g", Kind: specs.KindGit, Commit: "c0", Files: []specs.File{
			{Name: "g.tar", SHA256: "b3", URL: "https://x/g"},
		}},
	}}
	items := pinned(l,
		guest("20260101T000000Z", specs.Package{Name: "gcc", Version: "12", Arch: "amd64", SHA256: "a2"}),
		guest("20260201T000000Z", specs.Package{Name: "gcc", Version: "12", Arch: "i386", SHA256: "a3"}))
	var names []string
	for _, it := range items {
		names = append(names, it.Name)
		switch it.Name {
		case "s.dsc":
			if it.Pool != "pool/s.dsc" || it.Snapshot != "20260201T000000Z" || it.Size != 5 {
				t.Errorf("of the archive: %+v", it)
			}
		case "u.tar":
			if it.URL != "https://x/u.tar" || it.Git != "" || it.Pool != "" {
				t.Errorf("of a URL: %+v", it)
			}
		case "g.tar":
			if it.Git != "https://x/g" || it.Commit != "c0" || it.URL != "" {
				t.Errorf("of git: %+v", it)
			}
		}
	}
	want := []string{"g.tar", "gcc_12_amd64.deb", "gcc_12_i386.deb", "s.dsc", "tzdata_1_all.deb", "u.tar"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}
