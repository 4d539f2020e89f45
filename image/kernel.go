package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/image/initramfs"
)

// Kernel is what a guest needs of a linux-image package, as files.
type Kernel struct {
	Image   string   // path of what to boot: the ELF from inside the bzImage where it can be booted, else the bzImage
	Release string   // as uname -r says it
	Modules []string // paths of the modules, in the order in which they must be loaded
}

// Bounds on what a kernel package may make us keep.
const (
	maxKernel = 256 << 20
	maxModule = 64 << 20
	maxList   = 4 << 20
)

// ExtractKernel takes the kernel and those of its modules that a guest needs (initramfs.Wanted and what these need)
// out of a linux-image package, in one pass. Debian's package ships no modules.dep (its postinst runs depmod), so
// the dependencies are read from each module's own .modinfo section.
func ExtractKernel(ctx context.Context, deb io.Reader, dir string) (*Kernel, error) {
	sp, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	defer sp.Close()
	x := &kernelReader{dir: dir, spool: sp, have: map[string]initramfs.ModInfo{}, data: map[string]*node{}}
	if err := x.read(ctx, deb); err != nil {
		return nil, err
	}
	if x.kernel.Release == "" {
		return nil, fault.New(fault.Input, "read kernel package", "it has no /boot/vmlinuz-RELEASE").
			WithRemedy("Name a linux-image package with a kernel in it, not a metapackage or a -dbg package.")
	}
	if x.kernel.Image, err = bootImage(dir); err != nil {
		return nil, err
	}
	order, err := initramfs.LoadOrder(initramfs.Wanted, x.have, x.builtin)
	if err != nil {
		return nil, fault.New(fault.Input, "read kernel package", "%s: %w", x.kernel.Release, err).
			WithRemedy("Use a kernel that has virtio and EROFS, such as Debian's linux-image.")
	}
	for _, name := range order {
		file := filepath.Join(dir, name+".ko")
		if err := writeNode(file, x.data[name]); err != nil {
			return nil, err
		}
		x.kernel.Modules = append(x.kernel.Modules, file)
	}
	return &x.kernel, nil
}

// bootImage makes the quickest form of the kernel and removes the other.
func bootImage(dir string) (string, error) {
	bz, elf := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "vmlinux")
	f, err := os.Open(bz)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch err := unpackVmlinux(f, elf); {
	case err == nil:
		return elf, os.Remove(bz)
	case errors.Is(err, errNoPVH):
		return bz, os.Remove(elf)
	default:
		return "", fault.New(fault.Input, "read kernel package", "vmlinuz: %w", err)
	}
}

type kernelReader struct {
	dir     string
	spool   *spool
	kernel  Kernel
	have    map[string]initramfs.ModInfo
	data    map[string]*node
	builtin map[string]bool
}

func (x *kernelReader) read(ctx context.Context, r io.Reader) error {
	deb, err := debian.OpenDebNamed("kernel package", r)
	if err != nil {
		return err
	}
	defer deb.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := deb.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := x.file(h, deb); err != nil {
			return fmt.Errorf("kernel package: %s: %w", h.Name, err)
		}
	}
}

func (x *kernelReader) file(h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(h.Name, "usr/")
	switch {
	case strings.HasPrefix(name, "boot/vmlinuz-"):
		if h.Size > maxKernel {
			return fmt.Errorf("has %d bytes, more than %d", h.Size, maxKernel)
		}
		data, err := x.spool.add(r, h.Size)
		if err != nil {
			return err
		}
		x.kernel.Release = strings.TrimPrefix(name, "boot/vmlinuz-")
		return writeNode(filepath.Join(x.dir, "vmlinuz"), &node{mode: typeFile, size: h.Size, data: data})
	case strings.HasPrefix(name, "lib/modules/") && path.Base(name) == "modules.builtin":
		if h.Size > maxList {
			return fmt.Errorf("has %d bytes, more than %d", h.Size, maxList)
		}
		text, err := io.ReadAll(r)
		x.builtin = initramfs.Builtin(string(text))
		return err
	case strings.HasPrefix(name, "lib/modules/") && wantedPlace(name):
		return x.module(h, r)
	}
	return nil
}

// wantedPlace leaves out the drivers of hardware that no virtual machine has: they are most of the package, and
// reading each for its dependencies costs more than all else. What the guest's modules need lies elsewhere.
func wantedPlace(name string) bool {
	if !strings.HasSuffix(name, ".ko") && !strings.HasSuffix(name, ".ko.xz") && !strings.HasSuffix(name, ".ko.zst") {
		return false
	}
	for _, part := range []string{
		"/drivers/gpu/", "/drivers/media/", "/drivers/net/", "/sound/", "/drivers/infiniband/",
	} {
		if strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// module keeps a module, decompressed: busybox's insmod hands it to the kernel as it is.
func (x *kernelReader) module(h *tar.Header, r io.Reader) error {
	z, err := decompress(r)
	if err != nil {
		return err
	}
	defer z.Close()
	ko, err := io.ReadAll(io.LimitReader(z, maxModule+1))
	if err != nil {
		return err
	}
	if len(ko) > maxModule {
		return fmt.Errorf("more than %d bytes", maxModule)
	}
	info, err := initramfs.ParseModule(ko)
	if err != nil {
		return err
	}
	name := initramfs.ModuleName(h.Name)
	data, err := x.spool.add(strings.NewReader(string(ko)), int64(len(ko)))
	if err != nil {
		return err
	}
	x.have[name] = info
	x.data[name] = &node{mode: typeFile, size: int64(len(ko)), data: data}
	return nil
}

func writeNode(file string, n *node) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if n.data != nil {
		if _, err := io.Copy(f, n.data()); err != nil {
			f.Close()
			return err
		}
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
