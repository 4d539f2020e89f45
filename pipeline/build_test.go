package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// toyROM passes for one: QEMU takes whole multiples of 64 KiB, and a PC starts with the jump in the last 16 bytes.
var toyROM = strings.Repeat("\x00", 64<<10-16) + "\xea\x5b\xe0\x00\xf0" + strings.Repeat("\x00", 11)

func TestBuildHandsOverWhatBoots(t *testing.T) {
	h, _ := newHouse(t, fake.Script{Lines: fake.Say("hello"), End: fake.Stays})
	j := h.toyJob(t, toyROM)
	res, err := j.work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(j.opts.Out, "toy", j.asked.guest.Name)
	if got := files(t, out); got != "record.json stage-rom.log stage-tool.log toy.rom" {
		t.Errorf("out holds %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(out, "toy.rom")); string(got) != toyROM {
		t.Error("the ROM that came out is another")
	}
	if res.Cached || len(res.Verdicts) != 1 || !res.Verdicts[0].Pass || res.Accel != "tcg" {
		t.Errorf("got %+v", res)
	}

	// The same again is answered from the cache, without a machine.
	before := len(h.backend.(fakeVMs).Started())
	again, err := j.fromCache(t.Context())
	if err != nil || again == nil {
		t.Fatalf("got %v, %v", again, err)
	}
	if !again.Cached || again.Artifacts[0].SHA256 != res.Artifacts[0].SHA256 || again.Run != res.Run {
		t.Errorf("got %+v", again)
	}
	if n := len(h.backend.(fakeVMs).Started()); n != before {
		t.Errorf("%d machines were started for a known result", n-before)
	}
}

func TestBuildKeepsBackWhatDoesNotBoot(t *testing.T) {
	for name, c := range map[string]struct {
		script fake.Script
		rom    string
		kind   fault.Kind
	}{
		"says something else": {fake.Script{Lines: fake.Say("bye"), End: fake.PowersOff}, toyROM, fault.Smoke},
		"panics":              {fake.Script{Lines: fake.Say("oh"), End: fake.Panics}, toyROM, fault.Smoke},
		"is no ROM":           {fake.Script{Lines: fake.Say("hello"), End: fake.Stays}, "rubbish", fault.Smoke},
		"has no machine": {
			fake.Script{Start: fault.New(fault.Host, "start", "no memory")}, toyROM, fault.Host,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newHouse(t, c.script)
			j := h.toyJob(t, c.rom)
			_, err := j.work(t.Context())
			wantFault(t, err, c.kind)
			if got := files(t, j.opts.Out); got != "" {
				t.Errorf("out holds %q", got)
			}
			if res, err := j.fromCache(t.Context()); res != nil || err != nil {
				t.Errorf("the build is remembered: %v, %v", res, err)
			}
		})
	}
}

func TestNoCacheRunsStagesOnFreshDisks(t *testing.T) {
	h, said := newHouse(t, fake.Script{})
	j := h.toyJob(t, toyROM)
	j.opts.NoCache = true
	var tried []string
	h.backend = fakeVMs{&fake.Backend{Play: func(m vm.Machine) fake.Script {
		for _, d := range m.Disks {
			if !d.ReadOnly {
				tried = append(tried, d.Path)
			}
		}
		return fake.Script{Start: fault.New(fault.Host, "start", "QEMU died")}
	}}}
	_, err := j.work(t.Context())
	wantFault(t, err, fault.Host, "QEMU died")
	if got := said.texts(Warning); !strings.Contains(got, "trying once more") {
		t.Errorf("warned %q", got)
	}
	slices.Sort(tried)
	// Two attempts, each with a scratch and an output disk of its own; each machine is looked at before it starts.
	if tried = slices.Compact(tried); len(tried) != 2*attempts {
		t.Errorf("writable disks: %q", tried)
	}
	for _, d := range tried {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left behind (%v)", d, err)
		}
	}
}

func TestFromCacheTrustsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *house, d store.Digest) error
		warns string
	}{
		"artifact damaged": {nil, "building it again"},
		"artifact gone":    {func(h *house, d store.Digest) error { return os.Remove(h.store.Path(d)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, said := newHouse(t, fake.Script{})
			j := h.toyJob(t, toyROM)
			rom := h.put(t, toyROM)
			h.bind(t, "builds", j.id, knownBuild{
				Artifacts: []knownFile{{Name: "toy.rom", Digest: rom, Size: int64(len(toyROM)), Mode: 0o644}},
				Record:    h.put(t, "{}"),
			})
			if res, err := j.fromCache(t.Context()); err != nil || res == nil {
				t.Fatalf("whole: got %v, %v", res, err)
			}
			if err := os.RemoveAll(j.opts.Out); err != nil {
				t.Fatal(err)
			}
			if c.spoil == nil {
				h.damage(t, rom)
			} else if err := c.spoil(h, rom); err != nil {
				t.Fatal(err)
			}
			if res, err := j.fromCache(t.Context()); res != nil || err != nil {
				t.Errorf("got %v, %v; want neither", res, err)
			}
			if got := files(t, j.opts.Out); got != "" {
				t.Errorf("out holds %q", got)
			}
			if got := said.texts(Warning); !strings.Contains(got, c.warns) {
				t.Errorf("warned %q", got)
			}
		})
	}
}

func TestExportIsWholeOrNotAtAll(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	good, bad := h.put(t, "good bytes"), h.put(t, "bad bytes")
	h.damage(t, bad)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		digest store.Digest
		path   string
		kind   fault.Kind
	}{
		{"damaged object", t.Context(), bad, "rom", fault.Input},
		{"no such object", t.Context(), digestOf([]byte("never seen")), "rom", fault.Input},
		{"a folder in its place", t.Context(), good, "folder", fault.Host},
		{"interrupted", ended, good, "rom", fault.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "rom"), []byte("before"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := h.export(c.ctx, c.digest, filepath.Join(dir, c.path), 0o644)
			wantFault(t, err, c.kind)
			if c.ctx.Err() != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if got := files(t, dir); got != "rom" {
				t.Errorf("the folder holds %q", got)
			}
			if got, _ := os.ReadFile(filepath.Join(dir, "rom")); string(got) != "before" {
				t.Errorf("the old file became %q", got)
			}
		})
	}
}

func TestVerifyAllNamesTheDamagedFile(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	items := pinned(p.lock, p.locked)
	if err := h.verifyAll(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	h.damage(t, store.Digest(p.locked.Packages[1].SHA256))
	err := h.verifyAll(t.Context(), items)
	wantFault(t, err, fault.Input, "linux-image-toy_1_amd64.deb")
	if strings.Contains(err.Error(), "busybox") {
		t.Errorf("it accuses the whole one too: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.verifyAll(ended, items); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: got %v", err)
	}
}

func TestNeedStored(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	items := pinned(p.lock, p.locked)
	if err := h.needStored(items, "toy"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.store.Path(items[1].Digest)); err != nil {
		t.Fatal(err)
	}
	wantFault(t, h.needStored(items, "toy"), fault.Input, "1 of 2", items[1].Name)
}

func TestFinish(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	no := fault.New(fault.Build, "stage rom", "script exited 1")
	for _, c := range []struct {
		name string
		ctx  context.Context
		kept bool
		err  error
		want vm.State
	}{
		{"went well", t.Context(), false, nil, vm.Passed},
		{"went well, then interrupted", ended, false, nil, vm.Passed},
		{"failed", t.Context(), false, no, vm.Failed},
		{"interrupted", ended, false, context.Canceled, vm.Cancelled},
		{"failed because of it", ended, false, no, vm.Cancelled},
		{"kept guest ended by Ctrl-C", ended, true, no, vm.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := newHouse(t, fake.Script{})
			run, err := h.runs.Create(t.Context(), "build toy")
			if err != nil {
				t.Fatal(err)
			}
			h.kept = c.kept
			j := &job{house: h, run: run}
			if err := j.finish(c.ctx, c.err); err != nil {
				t.Fatal(err)
			}
			if got := run.Info().State; got != c.want {
				t.Errorf("is %s, want %s", got, c.want)
			}
		})
	}
}

func TestMakePlan(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	_, good := h.toyPlan(t)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lock := strings.TrimSuffix(good, ".yaml") + ".lock.json"
	changed := write("toy.yaml", strings.Replace(testSpec, "script: make", "script: make all", 1))
	for _, c := range []struct {
		name, spec, lock, guest string
		words                   string
	}{
		{"no such spec", "nosuch", "", "", "nosuch"},
		{"no such file", filepath.Join(t.TempDir(), "a.yaml"), "", "", "a.yaml"},
		{"no such guest", good, "", "debian-hamm", "debian-hamm"},
		{"no lock", write("toy.yaml", testSpec), "", "", "lock"},
		{"damaged lock", good, write("l.json", "{"), "", "l.json"},
		{"another spec's lock", changed, lock, "", "stages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := makePlan(c.spec, c.lock, c.guest)
			if k := fault.KindOf(err); k != fault.Input && k != fault.Usage {
				t.Fatalf("got %v, of kind %s", err, k)
			}
			if !strings.Contains(err.Error(), c.words) {
				t.Errorf("%q does not speak of %q", err, c.words)
			}
		})
	}
}

// bootToy boots a guest of which only the console is real.
func bootToy(ctx context.Context, t *testing.T, s fake.Script) error {
	t.Helper()
	h, _ := newHouse(t, s)
	p, _ := h.toyPlan(t)
	thing := h.put(t, "kernel and initramfs")
	m := machine(p.guest, p.locked)
	m.Accel = vm.TCG
	start := time.Now()
	_, err := h.boot(ctx, t.TempDir(), m, &bundle{Kernel: thing, Initramfs: thing}, PhaseBoot, "")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s to give up", took)
	}
	return err
}

func TestBootTellsTheCause(t *testing.T) {
	t.Run("panic", func(t *testing.T) {
		lines := fake.Say("Kernel panic - not syncing: no init")
		err := bootToy(t.Context(), t, fake.Script{Lines: lines, End: fake.Panics})
		wantFault(t, err, fault.Guest, "Kernel panic - not syncing: no init")
	})
	t.Run("panic of a guest that stays", func(t *testing.T) {
		err := bootToy(t.Context(), t, fake.Script{Lines: fake.Say("belljar: FATAL: no root"), End: fake.Stays})
		wantFault(t, err, fault.Guest, "belljar: FATAL: no root")
	})
	t.Run("it powers off", func(t *testing.T) {
		err := bootToy(t.Context(), t, fake.Script{Lines: fake.Say("Linux"), End: fake.PowersOff})
		wantFault(t, err, fault.Guest, "it went away")
		c := fault.Chain(err)
		if len(c) == 0 || len(c[0].Evidence) == 0 || !strings.Contains(c[0].Evidence[0].Text, "Linux") {
			t.Errorf("the console is not told: %+v", c)
		}
	})
	t.Run("host lacks something", func(t *testing.T) {
		err := bootToy(t.Context(), t, fake.Script{Preflight: fault.New(fault.Host, "preflight", "no QEMU")})
		wantFault(t, err, fault.Host, "no QEMU")
	})
	t.Run("interrupted", func(t *testing.T) {
		why := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(why) })
		err := bootToy(ctx, t, fake.Script{Lines: fake.Say("Linux"), End: fake.Stays})
		if !errors.Is(err, why) || fault.KindOf(err) != fault.Unknown {
			t.Errorf("got %v (%s), want the interrupt itself", err, fault.KindOf(err))
		}
	})
}

func TestSerials(t *testing.T) {
	if got := serials([]vm.Disk{{Serial: "root"}, {Serial: "outputs"}}); got != "root,outputs" {
		t.Errorf("got %q", got)
	}
}
