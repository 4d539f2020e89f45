package pipeline

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// testSpec has two stages, written in the wrong order, and one test of the ROM that the second makes.
const testSpec = `name: toy
guests: [debian-bookworm-x86_64]
sources: []
stages:
  - name: rom
    needs: [tool]
    script: make
    outputs: [toy.bin]
  - name: tool
    script: make
    outputs: [tool]
artifacts:
  - {name: toy.rom, stage: rom, path: toy.bin}
smoke:
  - {name: boots, artifact: toy.rom, machine: pc-q35-6.2, expect: ['^hello$'], timeout: 20s}
`

// fakeVMs is a backend whose machines do what a script says.
type fakeVMs struct{ *fake.Backend }

func (fakeVMs) Version(context.Context, string) (string, error) { return "7.2.22", nil }

func playing(s fake.Script) fakeVMs {
	return fakeVMs{&fake.Backend{Play: func(vm.Machine) fake.Script { return s }}}
}

// heard collects events.
type heard struct {
	mu  sync.Mutex
	all []Event
}

func (h *heard) report(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, e)
}

// texts are those of the events of a kind, one a line.
func (h *heard) texts(kind EventKind) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, e := range h.all {
		if e.Kind == kind {
			b.WriteString(e.Text + "\n")
		}
	}
	return b.String()
}

func newHouse(t testing.TB, s fake.Script) (*house, *heard) {
	t.Helper()
	var said heard
	h, err := open(Config{Dir: filepath.Join(t.TempDir(), "belljar"), Version: "1.0-test", Report: said.report})
	if err != nil {
		t.Fatal(err)
	}
	h.backend = playing(s)
	return h, &said
}

func (h *house) put(t testing.TB, text string) store.Digest {
	t.Helper()
	d, err := h.store.PutBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// damage flips a byte of an object behind the store's back.
func (h *house) damage(t *testing.T, d store.Digest) {
	t.Helper()
	path := h.store.Path(d)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// toyPlan writes the toy's spec and its lock to a folder, and the two packages that it pins to the store.
func (h *house) toyPlan(t testing.TB) (*plan, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toy.yaml")
	h.locked(t, path, testSpec)
	p, err := makePlan(path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return p, path
}

// locked writes a spec and its lock; specs that it needs are there before it.
func (h *house) locked(t testing.TB, path, spec string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	loaded, err := specs.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := loaded.Guest("")
	if err != nil {
		t.Fatal(err)
	}
	pkg := func(name string, kernel bool) specs.Package {
		return specs.Package{
			Name: name, Version: "1", Arch: "amd64", SHA256: string(h.put(t, "the package "+name)),
			Size: int64(len("the package " + name)), Pool: "pool/main/x/" + name + "_1_amd64.deb", Kernel: kernel,
		}
	}
	lock := &specs.Lock{Version: specs.LockVersion, Spec: specs.Stamp(loaded), Guests: map[string]*specs.LockedGuest{
		g.Name: {
			Arch: g.Arch, Suite: g.Suite, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock,
			Kernel: specs.Kernel{Package: "linux-image-toy", Version: "1", Release: "toy"},
			Release: specs.Release{
				Suite: "oldstable", Codename: "bookworm", Date: g.Clock,
				InReleaseSHA256: strings.Repeat("0", 64), Snapshot: "20260101T000000Z",
			},
			Packages: []specs.Package{pkg("busybox-static", false), pkg("linux-image-toy", true)},
		},
	}}
	for _, s := range loaded.Spec.Stages { // a stage's packages make the image another one
		for _, name := range s.Packages {
			lock.Guests[g.Name].Packages = append(lock.Guests[g.Name].Packages, pkg(name, false))
		}
	}
	needed, err := specs.LoadNeededLocks(loaded)
	if err == nil {
		err = lock.Pin(loaded, needed)
	}
	if err == nil {
		err = lock.WriteFile(loaded.LockPath())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// toyJob is a build of the toy of which everything up to the ROM is known already: only its test needs a machine.
func (h *house) toyJob(t *testing.T, rom string) *job {
	t.Helper()
	p, path := h.toyPlan(t)
	o := BuildOptions{Spec: path, Out: filepath.Join(t.TempDir(), "out"), Accel: vm.TCG, Offline: true}
	j, err := h.newJob(t.Context(), p, o, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.made(t, j, map[string]string{"tool": "a tool", "rom": rom})
	if j.run, err = h.runs.Create(t.Context(), "build toy"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.run.Finish(vm.Failed, nil) }) // what the test has not finished itself
	return j
}

// made makes the images of a job known, and the first output of each of these stages.
func (h *house) made(t *testing.T, j *job, stages map[string]string) {
	t.Helper()
	seal, err := json.Marshal(wire.Seal{Sealed: true, Interfaces: []string{"lo"}, NameLookup: "refused", Kernel: "toy"})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range j.jars {
		thing := h.put(t, "kernel, initramfs and image of "+name)
		key, err := bundleKey(r.guest, r.locked)
		if err != nil {
			t.Fatal(err)
		}
		h.bind(t, "bundles", key, bundle{thing, thing, thing, "toy"})
		h.bind(t, "images", r.imageID, builtImage{Root: thing, Size: 27, RootHash: strings.Repeat("ab", 32)})
	}
	for _, n := range j.nodes {
		out, ok := stages[n.name()]
		if !ok {
			continue
		}
		thing := h.put(t, "kernel, initramfs and image of "+n.loaded.Spec.Name)
		h.bind(t, "stages", n.id, stageResult{
			Outputs: []stageOutput{{Path: n.stage.Outputs[0], Digest: h.put(t, out), Size: int64(len(out)), Mode: 0o644}},
			Image:   usedImage{Root: thing, Kernel: thing, Initramfs: thing, Size: 27, RootHash: strings.Repeat("ab", 32)},
			Seal:    seal, Log: h.put(t, "log of "+n.name()), Wall: time.Second, Accel: "tcg",
		})
	}
}

func (h *house) bind(t *testing.T, kind, key string, v any) {
	t.Helper()
	if err := h.store.Bind(kind, key, v); err != nil {
		t.Fatal(err)
	}
}

// wantFault fails unless err is of that kind and speaks of all the words.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want a %s", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Errorf("%v: is a %s, want a %s", err, got, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not speak of %q", err, w)
		}
	}
}

// files lists what lies under root, by relative path.
func files(t *testing.T, root string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}
