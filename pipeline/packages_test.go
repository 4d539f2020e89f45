package pipeline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// testPackage is a .deb with one control file and these others.
func testPackage(t *testing.T, name string, files map[string]string) []byte {
	t.Helper()
	pack := func(files map[string]string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for file, text := range files {
			h := &tar.Header{Name: "./" + file, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatGNU}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: amd64\nMaintainer: A <a@b>\nDescription: test\n", name)
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	if _, err := z.Write(pack(files)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	deb := []byte("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")}, {"control.tar", pack(map[string]string{"control": control})},
		{"data.tar.gz", data.Bytes()},
	} {
		deb = fmt.Appendf(deb, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.data))
		deb = append(deb, m.data...)
		if len(m.data)%2 == 1 {
			deb = append(deb, '\n')
		}
	}
	return deb
}

// layerDigest writes the first layer of the guest and says how many packages were ready.
func layerDigest(t *testing.T, h *house, lg *specs.LockedGuest) (digest string, ready int) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	from := h.openPackages(t.Context(), lg)
	err = image.WriteBase(t.Context(), f, from.all, image.BaseOptions{Clock: lg.Clock, TempDir: t.TempDir()})
	from.wait()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), from.ready
}

// A package that was unpacked once is kept in a form that is unpacked faster, bound to its digest. Whichever form is
// read, and whatever has become of it, the layer is the same.
func TestReadyPackages(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	lg := &specs.LockedGuest{Clock: time.Unix(1_700_000_000, 0)}
	big := make([]byte, readyMin)
	rand.New(rand.NewSource(1)).Read(big)
	var bigOne store.Digest
	for name, files := range map[string]map[string]string{
		"base-passwd": {"usr/share/base-passwd/passwd.master": "root:*:0:0::/:/bin/sh\n", "usr/share/base-passwd/group.master": "root:*:0:\n"},
		"small":       {"usr/bin/small": "small"},
		"big":         {"usr/bin/big": string(big), "usr/lib/big": "more"},
	} {
		deb := testPackage(t, name, files)
		digest, err := h.store.PutBytes(deb)
		if err != nil {
			t.Fatal(err)
		}
		lg.Packages = append(lg.Packages, specs.Package{
			Name: name, Version: "1", Arch: "amd64", SHA256: string(digest), Size: int64(len(deb)),
		})
		if name == "big" {
			bigOne = digest
		}
	}
	form := func() (f readyForm) {
		if _, err := h.store.Lookup(readyKind, string(bigOne), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	want, ready := layerDigest(t, h, lg)
	if kinds, _ := h.store.List(readyKind); ready != 0 || len(kinds) != 1 || !h.store.Has(form().Object) {
		t.Fatalf("%d ready before the first layer, kept after it: %q; want 0 and %s", ready, kinds, bigOne)
	}
	for _, c := range []struct {
		name   string
		before func()
		ready  int
	}{
		{"ready", func() {}, 1},
		{"damaged", func() { h.damage(t, form().Object) }, 0},
		{"made again", func() {}, 1},
		{"gone", func() { _ = os.Remove(h.store.Path(form().Object)) }, 0},
		{"of another form", func() { h.bind(t, readyKind, string(bigOne), readyForm{form().Object, "older"}) }, 0},
		{"ready once more", func() {}, 1},
		{"collected", func() {
			if _, err := Clean(t.Context(), h.Config, CleanOptions{Store: true}); err != nil {
				t.Fatal(err)
			}
			if kinds, _ := h.store.List(readyKind); len(kinds) > 0 {
				t.Errorf("'clean --store' leaves %q", kinds)
			}
			lg.Packages = nil // they are gone as well
		}, 0},
	} {
		c.before()
		if len(lg.Packages) == 0 {
			break
		}
		got, ready := layerDigest(t, h, lg)
		if got != want || ready != c.ready {
			t.Errorf("%s: %d ready, layer %s; want %d and %s", c.name, ready, got, c.ready, want)
		}
	}
}

// Of two that need the same image at the same time one makes it; the other waits, says so, and takes what was made.
func TestImageIsMadeOnce(t *testing.T) {
	h, said := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	release, err := h.store.Claim(t.Context(), "images", "an id", nil)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		built builtImage
		parts []Part
		err   error
	}
	got := make(chan answer)
	go func() {
		built, parts, err := h.image(t.Context(), p, nil, "an id", vm.TCG, nil)
		got <- answer{built, parts, err}
	}()
	for end := time.Now().Add(time.Minute); !strings.Contains(said.texts(Note), "another belljar"); {
		if time.Now().After(end) {
			t.Fatal("it does not say that it waits")
		}
		time.Sleep(time.Millisecond)
	}
	want := builtImage{Root: h.put(t, "root disk"), Size: 9, RootHash: "ab"}
	h.bind(t, "images", "an id", want)
	release()
	if a := <-got; a.err != nil || a.built.Root != want.Root || len(a.parts) > 0 {
		t.Errorf("got %+v, %d parts, %v; want %+v", a.built, len(a.parts), a.err, want)
	}
}
