package pipeline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm/fake"
)

// bundledKernel puts into the store what a kernel package and busybox come to, with as many bytes as Debian's.
func (h *house) bundledKernel(t testing.TB, p *plan) kernelBundle {
	t.Helper()
	object := func(name string, size int) moduleFile {
		data := bytes.Repeat(sha256.New().Sum([]byte(name))[:16], size/16)
		// The head of an ELF without sections: a module is looked into.
		copy(data, "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 9)+"\x01\x00\x3e\x00\x01\x00\x00\x00"+strings.Repeat("\x00", 40))
		d, err := h.store.PutBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		return moduleFile{name, d, int64(len(data))}
	}
	b := kernelBundle{Boot: object("vmlinux", 4096).Object, Vmlinuz: object("vmlinuz", 4096).Object, Release: "6.1-toy"}
	for i := range 40 {
		b.Modules = append(b.Modules, object(fmt.Sprintf("module%d.ko", i), 150<<10))
	}
	b.Drivers = append(b.Drivers, object("ahci.ko", 100<<10))
	for key, v := range map[string]any{
		kernelKey(p.locked.Packages[1]):                         b,
		identity([]any{"busybox", p.locked.Packages[0].SHA256}): object("busybox", 2<<20),
	} {
		if err := h.store.Bind("kernels", key, v); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestBundle(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	p, _ := h.toyPlan(t)
	k := h.bundledKernel(t, p)
	b, err := h.bundle(t.Context(), p.guest, p.locked)
	if err != nil {
		t.Fatal(err)
	}
	if b.Kernel != k.Boot || b.Release != k.Release {
		t.Errorf("got %+v of %+v", b, k)
	}
	names := func(d store.Digest) string {
		t.Helper()
		data, err := h.store.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for r := initramfs.NewReader(bytes.NewReader(data)); ; {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				return " " + strings.Join(all, " ") + " "
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Name)
		}
	}
	guest := names(b.Initramfs)
	for _, want := range []string{
		" bin/busybox ", " bin/sh ", " init ", " modules/module0.ko ", " modules/module39.ko ",
	} {
		if !strings.Contains(guest, want) {
			t.Errorf("the guest's initramfs lacks%s: %s", want, guest)
		}
	}
	if strings.Contains(guest, "ahci") {
		t.Error("the guest's initramfs has drivers for what it does not have")
	}
	self, err := h.selfBoot(t.Context(), p.guest, p.locked)
	if err != nil {
		t.Fatal(err)
	}
	s := names(self.Initramfs)
	if !strings.Contains(s, " modules/ahci.ko ") || !strings.Contains(s, " modules/drivers ") ||
		self.Vmlinuz != k.Vmlinuz {
		t.Errorf("what boots by itself is %+v with %s", self, s)
	}

	again, err := h.bundle(t.Context(), p.guest, p.locked)
	if err != nil || *again != *b {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	// A bundle that the store has lost a part of is made again, here in vain: the package is none.
	if err := h.store.Unbind("bundles", mustKey(t, p)); err != nil {
		t.Fatal(err)
	}
	h.damage(t, k.Modules[3].Object)
	if _, err := h.bundle(t.Context(), p.guest, p.locked); fault.KindOf(err) != fault.Input {
		t.Errorf("with a damaged module: %v", err)
	}
	if _, err := h.bundle(t.Context(), p.guest, p.locked); err == nil || !strings.Contains(err.Error(), "package") {
		t.Errorf("with a module gone: %v, want that the package is read again", err)
	}
}

func mustKey(t testing.TB, p *plan) string {
	t.Helper()
	key, err := bundleKey(p.guest, p.locked)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// How long an initramfs takes that was not assembled before, from a kernel that was extracted before.
func BenchmarkBundle(b *testing.B) {
	h, _ := newHouse(b, fake.Script{})
	p, _ := h.toyPlan(b)
	h.bundledKernel(b, p)
	clock := p.guest.Clock
	for i := 0; b.Loop(); i++ {
		p.guest.Clock = clock.Add(time.Duration(i) * time.Second)
		if _, err := h.bundle(b.Context(), p.guest, p.locked); err != nil {
			b.Fatal(err)
		}
	}
}
