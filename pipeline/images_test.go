package pipeline

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm/fake"
)

// toyTar is the smallest image: a root with one file.
func toyTar(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "name", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFindImage(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	_, spec := h.toyPlan(t)
	root := h.put(t, string(toyTar(t, "one")))
	h.bind(t, "images", "old", builtImage{Root: root, Size: 2048}) // from before uses were noted
	h.bind(t, "images", "lost", builtImage{Root: store.Digest(strings.Repeat("ab", 32)), Size: 1})
	// A second image whose digest begins with the same two digits, found by trying.
	twin := root
	for i := 0; twin == root || twin[:2] != root[:2]; i++ {
		twin = h.put(t, string(toyTar(t, "two "+strings.Repeat("x", i))))
	}
	h.bind(t, "images", "twin", builtImage{Root: twin, Size: 2048})
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, toyTar(t, "three"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, ref, want, err string }{
		{"digest", string(root), string(root), ""},
		{"beginning of one", string(root[:20]), string(root), ""},
		{"beginning of two", string(root[:2]), "", "2 images have a digest that begins so"},
		{"of none", "0123456789abcdef", "", "no image in the store"},
		{"of one that is gone", strings.Repeat("ab", 32), "", "no image in the store"},
		{"file", file, "", ""},
		{"folder", filepath.Dir(file), "", "it is a folder"},
		{"no file", file + "x", "", "no such file"},
		{"spec", spec, "", "the guest debian-bookworm-x86_64 has none yet"},
		{"nearly a spec", "seabois", "", "no spec"},
		{"nonsense", "zzzzz", "", "it is no file, no spec and no digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := h.findImage(ImageRef{Image: test.ref})
			switch {
			case test.err != "":
				if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), test.err) || fault.Chain(err)[0].Remedy == "" {
					t.Errorf("got %v, want %q and a remedy", err, test.err)
				}
			case err != nil:
				t.Fatal(err)
			case string(got.Root) != test.want:
				t.Errorf("got %+v, want %s", got, test.want)
			}
		})
	}
	if _, err := h.findImage(ImageRef{Image: "seabois"}); !strings.Contains(fault.Chain(err)[0].Remedy, "seabios") {
		t.Errorf("no suggestion: %v", err)
	}
	// What the toy's own image is, is found by its spec.
	j := h.toyJob(t, "rom")
	got, err := h.findImage(ImageRef{Image: j.asked.loaded.Path})
	if err != nil || got.Root != j.builtRoot(t) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// builtRoot is the root that the store knows of the job's image.
func (j *job) builtRoot(t *testing.T) store.Digest {
	t.Helper()
	built, ok, err := j.knownImage(j.asked.imageID)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return built.Root
}

func TestNoteUse(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	old := builtImage{Root: h.put(t, "disk"), Size: 4}
	h.bind(t, "images", "id", old)
	list := func() ImageInfo {
		t.Helper()
		all, err := h.images()
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0]
	}
	if i := list(); i.Guest != "" || i.Specs == nil || len(i.Specs) != 0 || !i.Used.IsZero() || i.Missing {
		t.Errorf("an entry without notes came out as %+v", i)
	}
	noted := h.noteUse("id", p, old, false)
	i := list()
	if i.Guest != "debian-bookworm-x86_64" || len(i.Specs) != 1 || i.Specs[0] != "toy" || i.Packages != 1 ||
		time.Since(i.Used) > time.Minute || !i.Made.IsZero() || i.Digest != string(old.Root) {
		t.Errorf("noted as %+v", i)
	}
	// Within a minute nothing is written again.
	h.bind(t, "images", "id", old)
	h.noteUse("id", p, noted, false)
	if i := list(); i.Guest != "" {
		t.Error("a use was noted twice within a minute")
	}
	p.loaded.Spec.Name = "another"
	h.noteUse("id", p, noted, true)
	if i := list(); strings.Join(i.Specs, " ") != "another toy" || i.Made.IsZero() {
		t.Errorf("noted as %+v", i)
	}
}

// TestWithImageVerifies: nothing is told of an object that is damaged.
func TestWithImageVerifies(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	root := h.put(t, string(toyTar(t, "one")))
	h.bind(t, "images", "id", builtImage{Root: root, Size: 2048})
	use := func() (opened bool, err error) {
		err = h.withImage(context.Background(), ImageRef{Image: string(root)}, true, func(*image.Image) error {
			opened = true
			return nil
		})
		return opened, err
	}
	if opened, err := use(); err != nil || !opened {
		t.Fatal(opened, err)
	}
	h.damage(t, root)
	if opened, err := use(); opened || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("opened %v, %v", opened, err)
	}
}
