package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

const corruptLine = "[   12.345678] device-mapper: verity: 254:1: data block 4711 is corrupted"

// A guest that finds a corrupt block, and what the stored image says to that.
func TestDamagedImage(t *testing.T) {
	boot := func(t *testing.T, j *jar, s fake.Script) error {
		t.Helper()
		j.backend = playing(s)
		dir := t.TempDir()
		j.decision = vm.Decision{Accel: vm.TCG}
		var err error
		if j.bundle, err = j.house.bundle(t.Context(), j.guest, j.locked); err != nil {
			t.Fatal(err)
		}
		_, err = j.stage("tool").bootStage(t.Context(), dir, stageDisks(dir))
		return err
	}
	newJob := func(t *testing.T) (*house, *jar) {
		t.Helper()
		h, _ := newHouse(t, fake.Script{})
		j := h.toyJob(t, "a ROM").asked
		if _, err := h.store.Lookup("images", j.imageID, &j.image); err != nil {
			t.Fatal(err)
		}
		j.image.Root = h.put(t, "a root disk of its own")
		return h, j
	}
	corrupt := fake.Script{Lines: fake.Say("Linux", corruptLine), End: fake.Stays}

	t.Run("the stored image is damaged", func(t *testing.T) {
		h, j := newJob(t)
		h.damage(t, j.image.Root)
		err := boot(t, j, corrupt)
		wantFault(t, err, fault.Input, "image damaged", string(j.image.Root), "moved aside")
		c := fault.Chain(err)
		if !strings.Contains(c[0].Evidence[0].Text, corruptLine) {
			t.Errorf("the kernel's line is not told: %+v", c[0].Evidence)
		}
		if !strings.Contains(c[len(c)-1].Remedy, "belljar build makes it anew") {
			t.Errorf("remedy %q", c[len(c)-1].Remedy)
		}
		if h.store.Has(j.image.Root) {
			t.Error("the damaged image is still in the way")
		}
	})
	t.Run("the stored image is whole", func(t *testing.T) {
		h, j := newJob(t)
		wantFault(t, boot(t, j, corrupt), fault.Host, "did not read what is stored", corruptLine)
		if !h.store.Has(j.image.Root) {
			t.Error("the image is gone")
		}
	})
	t.Run("a guest that does not get that far", func(t *testing.T) {
		h, j := newJob(t)
		h.damage(t, j.image.Root)
		lines := fake.Say("belljar: FATAL image: no dm-verity over vda1")
		wantFault(t, boot(t, j, fake.Script{Lines: lines, End: fake.Stays}), fault.Input, "image damaged", "moved aside")
	})
	t.Run("another panic", func(t *testing.T) {
		_, j := newJob(t)
		lines := fake.Say("Kernel panic - not syncing: no init")
		wantFault(t, boot(t, j, fake.Script{Lines: lines, End: fake.Stays}), fault.Guest, "no init")
	})
}

// What a script makes of an I/O error, and that it even succeeds, does not hide where the error came from.
func TestCorrupted(t *testing.T) {
	h, _ := newHouse(t, fake.Script{Lines: fake.Say(corruptLine), End: fake.Stays})
	dir := t.TempDir()
	p, _ := h.toyPlan(t)
	m := machine(p.guest, p.locked)
	m.Accel, m.Ports = vm.TCG, []string{sshPort}
	guest, err := h.backend.Start(t.Context(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &booted{guest: guest, dir: dir, parent: t.Context(), read: make(chan struct{})}
	g.ctx, g.stop = context.WithCancelCause(t.Context())
	if err := g.corrupted(nil); err != nil {
		t.Errorf("a guest that has said nothing: %v", err)
	}
	go g.watchConsole(func(string) {})
	select {
	case <-g.ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the guest was not stopped")
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"success": nil, "failure": fault.New(fault.Build, "stage", "script exited 1"),
	} {
		got := g.corrupted(err)
		if _, ok := errors.AsType[*corruption](got); !ok || fault.KindOf(got) != fault.Guest {
			t.Errorf("%s: got %v", name, got)
		}
		if err != nil && !strings.Contains(got.Error(), "script exited 1") {
			t.Errorf("%s: %v forgets what the script said", name, got)
		}
	}
}
