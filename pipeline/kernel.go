package pipeline

import (
	"context"
	"io"
	"path/filepath"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// kernelBundle is what a guest needs of a kernel package, as objects in the store: made once per package, whatever
// else the initramfs is made of.
type kernelBundle struct {
	Boot      store.Digest // what QEMU boots: the ELF from inside the bzImage, or the bzImage
	Vmlinuz   store.Digest // the bzImage, for a boot loader
	SystemMap store.Digest `json:",omitempty"`
	Release   string       // uname -r
	Modules   []moduleFile // of every guest, in the order in which they are loaded
	Drivers   []moduleFile // for a disk that boots by itself, loaded after them
}

type moduleFile struct {
	Name   string
	Object store.Digest
	Size   int64
}

// kernelRecipe is the version of the bundle: it grows whenever the same package would come to another one.
const kernelRecipe = "1"

func kernelKey(kernel specs.Package) string {
	return identity([]any{"kernel", kernelRecipe, kernel.SHA256, initramfs.Wanted, initramfs.Drivers})
}

// kernel finds a kernel package's bundle in the store, or makes it.
func (h *house) kernel(ctx context.Context, lg *specs.LockedGuest) (*kernelBundle, error) {
	pkg, err := packageOf(lg, func(p specs.Package) bool { return p.Kernel }, "a kernel")
	if err != nil {
		return nil, err
	}
	var b kernelBundle
	if ok, err := h.store.Lookup("kernels", kernelKey(pkg), &b); err != nil || ok && h.hasKernel(&b) {
		return &b, err
	}
	dir, remove, err := h.store.TempDir("kernel-*")
	if err != nil {
		return nil, err
	}
	defer remove()
	var k *image.Kernel
	err = h.store.Stream(ctx, store.Digest(pkg.SHA256), func(r io.Reader) error {
		k, err = image.ExtractKernel(ctx, r, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	b = kernelBundle{Release: k.Release}
	for _, f := range []struct {
		to   *store.Digest
		path string
	}{{&b.Boot, k.Image}, {&b.Vmlinuz, k.Vmlinuz}, {&b.SystemMap, k.SystemMap}} {
		if f.path == "" {
			continue
		}
		if *f.to, _, err = h.store.PutFile(ctx, f.path); err != nil {
			return nil, err
		}
	}
	if b.Modules, err = h.keepModules(ctx, k.Modules); err != nil {
		return nil, err
	}
	if b.Drivers, err = h.keepModules(ctx, k.Drivers); err != nil {
		return nil, err
	}
	return &b, h.store.Bind("kernels", kernelKey(pkg), b)
}

func (h *house) hasKernel(b *kernelBundle) bool {
	all := []store.Digest{b.Boot, b.Vmlinuz}
	for _, m := range append(b.Modules[:len(b.Modules):len(b.Modules)], b.Drivers...) {
		all = append(all, m.Object)
	}
	for _, d := range all {
		if !h.store.Has(d) {
			return false
		}
	}
	return true
}

func (h *house) keepModules(ctx context.Context, paths []string) ([]moduleFile, error) {
	var all []moduleFile
	for _, path := range paths {
		d, size, err := h.store.PutFile(ctx, path)
		if err != nil {
			return nil, err
		}
		all = append(all, moduleFile{filepath.Base(path), d, size})
	}
	return all, nil
}

// bundle is what a guest is booted with: the kernel, and what was assembled for it.
type bundle struct {
	Kernel    store.Digest // what is booted: bzImage or ELF
	Initramfs store.Digest // a guest's
	Proof     store.Digest // the initramfs of the KVM proof
	Release   string       // uname -r
}

// What a kernel under the KVM proof says: when it runs a program, and when that has done its work.
const (
	proofRuns = "belljar: this kernel runs"
	proofDone = "belljar: its work is done"
)

// bundle assembles the initramfs of a guest, or finds it in the store.
func (h *house) bundle(ctx context.Context, g *specs.Guest, lg *specs.LockedGuest) (*bundle, error) {
	key, err := bundleKey(g, lg)
	if err != nil {
		return nil, err
	}
	var b bundle
	if ok, err := h.store.Lookup("bundles", key, &b); err != nil {
		return nil, err
	} else if ok && h.store.Has(b.Kernel) && h.store.Has(b.Initramfs) && h.store.Has(b.Proof) {
		return &b, nil
	}
	k, err := h.kernel(ctx, lg)
	if err != nil {
		return nil, err
	}
	config, err := h.initramfs(ctx, g, lg, k)
	if err != nil {
		return nil, err
	}
	agent, _, err := provision.Agent(g.Arch)
	if err != nil {
		return nil, err
	}
	config.Agent, config.Lean = initramfs.Bytes("", 0, agent), true
	b.Kernel, b.Release = k.Boot, k.Release
	if b.Initramfs, err = h.putStream(ctx, func(w io.Writer) error { return initramfs.Build(w, config) }); err != nil {
		return nil, err
	}
	if b.Proof, err = h.putStream(ctx, func(w io.Writer) error {
		return initramfs.BuildProof(w, config.Busybox, proofRuns, proofDone, g.Clock)
	}); err != nil {
		return nil, err
	}
	return &b, h.store.Bind("bundles", key, b)
}

// bundleKey names a bundle by all that it is made of.
func bundleKey(g *specs.Guest, lg *specs.LockedGuest) (string, error) {
	kernel, err := packageOf(lg, func(p specs.Package) bool { return p.Kernel }, "a kernel")
	if err != nil {
		return "", err
	}
	busybox, err := packageOf(lg, isBusybox, "busybox-static")
	if err != nil {
		return "", err
	}
	_, first, err := provision.Init(g.Arch)
	if err != nil {
		return "", err
	}
	_, agent, err := provision.Agent(g.Arch)
	if err != nil {
		return "", err
	}
	return identity([]any{
		"bundle", initramfs.Recipe(), initramfs.ProofRecipe(), kernelKey(kernel), busybox.SHA256, first, agent,
		g.Clock.Unix(),
	}), nil
}

func isBusybox(p specs.Package) bool { return p.Name == "busybox-static" }

// initramfs is what a guest's initramfs is made of; its files are read from the store when it is written.
func (h *house) initramfs(ctx context.Context, g *specs.Guest, lg *specs.LockedGuest, k *kernelBundle,
) (initramfs.Config, error) {
	box, err := h.busybox(ctx, lg)
	if err != nil {
		return initramfs.Config{}, err
	}
	first, _, err := provision.Init(g.Arch)
	if err != nil {
		return initramfs.Config{}, err
	}
	c := initramfs.Config{
		Init: initramfs.Bytes("", 0, first), Busybox: h.stored(box), Clock: g.Clock,
	}
	for _, m := range k.Modules {
		c.Modules = append(c.Modules, h.stored(m))
	}
	return c, nil
}

// busybox finds the program of the locked package in the store, or puts it there.
func (h *house) busybox(ctx context.Context, lg *specs.LockedGuest) (moduleFile, error) {
	pkg, err := packageOf(lg, isBusybox, "busybox-static")
	if err != nil {
		return moduleFile{}, err
	}
	key := identity([]any{"busybox", pkg.SHA256})
	var box moduleFile
	if ok, err := h.store.Lookup("kernels", key, &box); err != nil || ok && h.store.Has(box.Object) {
		return box, err
	}
	dir, remove, err := h.store.TempDir("busybox-*")
	if err != nil {
		return box, err
	}
	defer remove()
	path := filepath.Join(dir, "busybox")
	err = h.store.Stream(ctx, store.Digest(pkg.SHA256), func(r io.Reader) error {
		return image.ExtractFile(r, "bin/busybox", path)
	})
	if err != nil {
		return box, err
	}
	box.Name = "busybox"
	if box.Object, box.Size, err = h.store.PutFile(ctx, path); err != nil {
		return box, err
	}
	return box, h.store.Bind("kernels", key, box)
}

// stored makes an entry of an initramfs of an object.
func (h *house) stored(f moduleFile) initramfs.File {
	return initramfs.File{
		Name: f.Name, Size: f.Size, Open: func() (io.ReadCloser, error) { return h.store.Open(f.Object) },
	}
}

// selfBoot is what boots a disk without Belljar.
type selfBoot struct {
	Vmlinuz   store.Digest // the bzImage as the package has it, which is an EFI program too
	Initramfs store.Digest // a guest's, with the drivers for the disks of other machines
	Release   string       // uname -r
}

// selfBoot assembles what a disk needs that is to boot by itself. See initramfs.SelfBoot for the command line.
func (h *house) selfBoot(ctx context.Context, g *specs.Guest, lg *specs.LockedGuest) (*selfBoot, error) {
	k, err := h.kernel(ctx, lg)
	if err != nil {
		return nil, err
	}
	config, err := h.initramfs(ctx, g, lg, k)
	if err != nil {
		return nil, err
	}
	for _, m := range k.Drivers {
		config.Drivers = append(config.Drivers, h.stored(m))
	}
	s := &selfBoot{Vmlinuz: k.Vmlinuz, Release: k.Release}
	s.Initramfs, err = h.putStream(ctx, func(w io.Writer) error { return initramfs.Build(w, config) })
	return s, err
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
