package pipeline

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm/fake"
)

func TestOutName(t *testing.T) {
	for want, ref := range map[string]ImageRef{
		"seabios":                    {Image: "seabios"},
		"my-board":                   {Image: "./specs/my-board.yaml"},
		"seabios-debian-trixie-i686": {Image: "seabios", Guest: "debian-trixie-i686"},
		"3f9a":                       {Image: "3f9a"},
		"root":                       {Image: "/tmp/root.tar.zst"},
		".hidden":                    {Image: ".hidden"},
		"debian-12.version":          {Image: "debian-12.version"}, // that is no ending
	} {
		if got := outName(ref); got != want {
			t.Errorf("%+v is called %q, want %q", ref, got, want)
		}
	}
}

func TestExportSaysWhoseDiskIsFull(t *testing.T) {
	x := &export{o: ExportOptions{Out: "/there/x.raw"}}
	full := func(path string, err error) error { return &fs.PathError{Op: "write", Path: path, Err: err} }
	told := x.outFull(full("/there/.x.raw.1234", unix.ENOSPC))
	wantFault(t, told, fault.Host, "export to /there/x.raw", "no space left")
	if e := fault.Chain(told); len(e) != 1 || e[0].Remedy == "" {
		t.Errorf("no remedy in %v", told)
	}
	for _, other := range []error{
		full("/here/store/tmp/disk-1", unix.ENOSPC), full("/there/.x.raw.1234", unix.EIO), errors.New("broken"), nil,
	} {
		if got := x.outFull(other); !errors.Is(got, other) || fault.KindOf(got) == fault.Host {
			t.Errorf("%v became %v", other, got)
		}
	}
}

// An image of the store remembers for which specs it was made: a shipped one's kernel boots it.
func TestExportFindsTheKernel(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	root := h.put(t, "a root")
	use := func(specs ...string) {
		h.bind(t, "images", "id", builtImage{Root: root, Use: imageUse{Guest: "debian-bookworm-i686", Specs: specs}})
	}
	x := &export{house: h, o: ExportOptions{Format: FormatRaw, Image: ImageRef{Image: root.Short()}}}

	use("gone", "seabios")
	p, err := x.plan()
	if err != nil || p.guest.Name != "debian-bookworm-i686" || p.loaded.Spec.Name != "roms/seabios" {
		t.Errorf("made for seabios: %+v, %v", p, err)
	}
	use("gone")
	_, err = x.plan()
	wantFault(t, err, fault.Input, "it has no kernel")
	x.o.Kernel = "seabios"
	if p, err := x.plan(); err != nil || p.loaded.Spec.Name != "roms/seabios" {
		t.Errorf("with --kernel: %+v, %v", p, err)
	}
	x.o.Kernel, x.o.Image.Image = "", filepath.Join(t.TempDir(), "x.img")
	if err := os.WriteFile(x.o.Image.Image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = x.plan()
	wantFault(t, err, fault.Input, "it has no kernel")
}

// A damaged object of the store is not handed over.
func TestExportOfADamagedImage(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	root := h.put(t, "a root")
	h.bind(t, "images", "id", builtImage{Root: root})
	h.damage(t, root)
	out := filepath.Join(t.TempDir(), "x.tar")
	o := ExportOptions{Format: FormatTar, Image: ImageRef{Image: root.Short()}, Out: out}
	_, err := ImageExport(t.Context(), h.Config, o)
	if _, ok := errors.AsType[*store.Mismatch](err); !ok {
		t.Errorf("got %v, want a mismatch", err)
	}
	if left := files(t, filepath.Dir(out)); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
