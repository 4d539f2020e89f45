package pipeline

import (
	"context"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// bundle is what a guest's kernel package comes to: objects in the store, made once per kernel and busybox package.
type bundle struct {
	Kernel    store.Digest // what is booted: bzImage or ELF
	Initramfs store.Digest // a guest's
	Proof     store.Digest // the one-line initramfs of the KVM proof
	Release   string       // uname -r
}

// proofLine is what a kernel under the KVM proof says before it powers off.
const proofLine = "belljar: this kernel runs"

// bundle extracts the kernel and assembles the initramfs, or finds both in the store.
func (h *house) bundle(ctx context.Context, g *specs.Guest, lg *specs.LockedGuest) (*bundle, error) {
	kernel, err := packageOf(lg, func(p specs.Package) bool { return p.Kernel }, "a kernel")
	if err != nil {
		return nil, err
	}
	busybox, err := packageOf(lg, func(p specs.Package) bool { return p.Name == "busybox-static" }, "busybox-static")
	if err != nil {
		return nil, err
	}
	key := bundleKey(g, kernel, busybox)
	var b bundle
	if ok, err := h.store.Lookup("bundles", key, &b); err != nil {
		return nil, err
	} else if ok && h.store.Has(b.Kernel) && h.store.Has(b.Initramfs) && h.store.Has(b.Proof) {
		return &b, nil
	}
	dir, remove, err := h.store.TempDir("kernel-*")
	if err != nil {
		return nil, err
	}
	defer remove()
	var k *image.Kernel
	err = h.store.Stream(ctx, store.Digest(kernel.SHA256), func(r io.Reader) error {
		k, err = image.ExtractKernel(ctx, r, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	boxPath := filepath.Join(dir, "busybox")
	err = h.store.Stream(ctx, store.Digest(busybox.SHA256), func(r io.Reader) error {
		return image.ExtractFile(r, "bin/busybox", boxPath)
	})
	if err != nil {
		return nil, err
	}
	files, err := filesAt(append([]string{boxPath}, k.Modules...))
	if err != nil {
		return nil, err
	}
	box, modules := files[0], files[1:]
	b.Release = k.Release
	if b.Kernel, _, err = h.store.PutFile(ctx, k.Image); err != nil {
		return nil, err
	}
	if b.Initramfs, err = h.putStream(ctx, func(w io.Writer) error {
		return initramfs.Build(w, initramfs.Config{Busybox: box, Modules: modules, Clock: g.Clock})
	}); err != nil {
		return nil, err
	}
	if b.Proof, err = h.putStream(ctx, func(w io.Writer) error {
		return initramfs.BuildProof(w, box, proofLine, g.Clock)
	}); err != nil {
		return nil, err
	}
	return &b, h.store.Bind("bundles", key, b)
}

func bundleKey(g *specs.Guest, kernel, busybox specs.Package) string {
	return identity([]any{"bundle", image.Version, initramfs.Recipe(), kernel.SHA256, busybox.SHA256, g.Clock.Unix()})
}

// filesAt makes entries of an initramfs of files on the host.
func filesAt(paths []string) ([]initramfs.File, error) {
	var files []initramfs.File
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		files = append(files, initramfs.File{
			Name: path.Base(p), Size: info.Size(),
			Open: func() (io.ReadCloser, error) { return os.Open(p) },
		})
	}
	return files, nil
}

func packageOf(lg *specs.LockedGuest, is func(specs.Package) bool, what string) (specs.Package, error) {
	for _, p := range lg.Packages {
		if is(p) {
			return p, nil
		}
	}
	return specs.Package{}, fault.New(fault.Input, "lock", "no package of the guest is %s", what).
		WithRemedy("add it to the guest's packages and lock again")
}

// putStream stores what write writes, without a temporary file.
func (h *house) putStream(ctx context.Context, write func(io.Writer) error) (store.Digest, error) {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(write(pw)) }()
	d, _, err := h.store.Put(ctx, pr, "", -1)
	pr.CloseWithError(err)
	return d, err
}
