package pipeline

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm/fake"
)

// paragraph is one package of a Packages file.
func paragraph(name, version, depends string) string {
	text := "Package: " + name + "\nVersion: " + version + "\nArchitecture: amd64\n"
	if depends != "" {
		text += "Depends: " + depends + "\n"
	}
	return text + "Filename: pool/main/l/" + name + ".deb\nSize: 1\nSHA256: " + strings.Repeat("a", 64) + "\n\n"
}

func TestKernelOf(t *testing.T) {
	idx, err := debian.ReadIndex("bookworm/main", "bookworm", strings.NewReader(
		paragraph("linux-image-amd64", "6.1.2", "linux-image-6.1.0-2-amd64 (= 6.1.2)")+
			paragraph("linux-image-6.1.0-2-amd64", "6.1.2", "kmod, linux-base, initramfs-tools | linux-initramfs-tool")+
			paragraph("linux-image-stale", "1", "linux-image-6.1.0-2-amd64 (= 6.1.1)")+
			paragraph("kernel-of-mine", "1", "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, kernel, want string }{
		{"metapackage", "linux-image-amd64", "linux-image-6.1.0-2-amd64"},
		{"the package itself", "linux-image-6.1.0-2-amd64", "linux-image-6.1.0-2-amd64"},
		{"metapackage of another version", "linux-image-stale", "linux-image-stale"},
		{"without dependencies", "kernel-of-mine", "kernel-of-mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := kernelOf(idx, &specs.Guest{Name: "g", Kernel: c.kernel})
			if err != nil || p.Name != c.want {
				t.Errorf("got %v, %v; want %s", p, err, c.want)
			}
		})
	}
	_, err = kernelOf(idx, &specs.Guest{Name: "g", Kernel: "linux-image-hurd"})
	wantFault(t, err, fault.Input, "guest g", "linux-image-hurd", "bookworm/main")
}

func TestRoots(t *testing.T) {
	names, origins := roots(&specs.Loaded{Spec: &specs.Spec{Stages: []specs.Stage{
		{Name: "tool", Packages: []string{"gcc", "passwd"}}, {Name: "rom", Packages: []string{"acpica-tools"}},
	}}}, &specs.Guest{Name: "g", Packages: []string{"passwd", "busybox-static"}})
	if want := []string{"acpica-tools", "busybox-static", "gcc", "passwd"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	want := map[string]string{
		"acpica-tools": "stage rom", "gcc": "stage tool", "passwd": "guest g", "busybox-static": "guest g",
	}
	if !maps.Equal(origins, want) {
		t.Errorf("got %q, want %q", origins, want)
	}
}

func TestPackageOf(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	k, err := packageOf(p.locked, func(p specs.Package) bool { return p.Kernel }, "a kernel")
	if err != nil || k.Name != "linux-image-toy" {
		t.Errorf("got %v, %v", k, err)
	}
	_, err = packageOf(&specs.LockedGuest{}, func(p specs.Package) bool { return p.Kernel }, "a kernel")
	wantFault(t, err, fault.Input, "a kernel")
}

// Where nothing is to be resolved, a lock is made without a network; a second one changes nothing.
func TestLockOfUnchangedPackages(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	_, path := h.toyPlan(t)
	cfg := Config{Dir: h.Dir, Mirrors: []string{"http://127.0.0.1:1/nowhere"}}
	res, err := Lock(t.Context(), cfg, LockOptions{Spec: path})
	if err != nil {
		t.Fatal(err)
	}
	if res.Written || len(res.Changes) != 0 || res.Packages != 2 {
		t.Errorf("got %+v", res)
	}
}
