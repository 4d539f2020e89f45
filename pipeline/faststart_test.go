package pipeline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// rewinding is a backend that takes states, and then says no. What it starts from power-on panics: a test has seen
// enough by then.
type rewinding struct {
	fakeVMs
	restored []vm.Machine
}

func (r *rewinding) Restore(_ context.Context, m vm.Machine, _ string, state io.Reader) (vm.Guest, error) {
	r.restored = append(r.restored, m)
	_, err := io.Copy(io.Discard, state)
	return nil, errors.Join(err, errors.New("this QEMU takes no states"))
}

// A state is made on the second occasion at the earliest; one that does not work is dropped aloud, and the guest boots
// from power-on.
func TestFastStartIsNeverAFailure(t *testing.T) {
	setUp := func(t *testing.T) (*house, *heard, *jar, *rewinding) {
		t.Helper()
		h, said := newHouse(t, fake.Script{})
		lines := fake.Say("Kernel panic - not syncing: cold")
		backend := &rewinding{fakeVMs: playing(fake.Script{Lines: lines, End: fake.Panics})}
		h.backend = backend
		j := h.toyJob(t, "a ROM").asked
		j.decision = vm.Decision{Accel: vm.TCG}
		if _, err := h.store.Lookup("images", j.imageID, &j.image); err != nil {
			t.Fatal(err)
		}
		var err error
		if j.bundle, err = h.bundle(t.Context(), j.guest, j.locked); err != nil {
			t.Fatal(err)
		}
		return h, said, j, backend
	}
	boot := func(t *testing.T, j *jar) {
		t.Helper()
		dir := t.TempDir()
		_, err := j.stage("tool").bootStage(t.Context(), dir, stageDisks(dir))
		wantFault(t, err, fault.Guest, "not syncing: cold")
	}
	kept := func(t *testing.T, h *house, kind string) []string {
		t.Helper()
		keys, err := h.store.List(kind)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("a state "), 1<<16)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	for name, spoil := range map[string]func(*testing.T, *house, *savedState){
		"refused": func(*testing.T, *house, *savedState) {},
		"damaged": func(t *testing.T, h *house, s *savedState) { h.damage(t, s.Object) },
	} {
		t.Run(name, func(t *testing.T) {
			h, said, j, backend := setUp(t)
			boot(t, j)
			keys := kept(t, h, bootKind)
			if len(keys) != 1 || len(backend.restored) != 0 || len(backend.Started()) != 1 {
				t.Fatalf("after the first: keys %v, %d restored, %d started", keys, len(backend.restored), len(backend.Started()))
			}
			state := savedState{Object: h.put(t, packed.String()), Size: 8 << 16}
			h.bind(t, stateKind, keys[0], state)
			spoil(t, h, &state)
			boot(t, j)
			if len(backend.restored) != 1 || len(backend.Started()) != 2 {
				t.Errorf("%d restored, %d started from power-on, want 1 and 2", len(backend.restored), len(backend.Started()))
			}
			if text := said.texts(Warning); !strings.Contains(text, "is dropped") {
				t.Errorf("the warnings are %q", text)
			}
			if left := kept(t, h, stateKind); len(left) != 0 {
				t.Errorf("the state is still remembered: %v", left)
			}
		})
	}
	t.Run("not wanted", func(t *testing.T) {
		h, _, j, backend := setUp(t)
		j.opts.Cold = true
		boot(t, j)
		if keys := kept(t, h, bootKind); len(keys) != 0 || len(backend.restored) != 0 {
			t.Errorf("keys %v, %d restored", keys, len(backend.restored))
		}
	})
}
