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
	"regexp"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/image/initramfs"
)

// Kernel is what a guest needs of a linux-image package, as files.
type Kernel struct {
	Image     string   // path of what to boot: the ELF from inside the bzImage where it can be booted, else the bzImage
	Vmlinuz   string   // path of the bzImage, as a boot loader wants it
	SystemMap string   // path of System.map; "" where the package has none
	Release   string   // as uname -r says it
	Modules   []string // paths of the modules that the guest needs, in the order in which they must be loaded
	Drivers   []string // … of those that a disk which boots by itself may need after them
}

// Bounds on what a kernel package may make us keep.
const (
	maxKernel = 256 << 20
	maxMap    = 64 << 20
	maxModule = 64 << 20
	maxList   = 4 << 20
)

// ExtractKernel takes the kernel and those of its modules that a guest needs (initramfs.Wanted, initramfs.Drivers and
// what these need) out of a linux-image package, in one pass. Where the package has modules.dep, it says what a module
// needs. Debian's has none (its postinst runs depmod): there it is read from where depmod reads it, each module's own
// .modinfo section.
func ExtractKernel(ctx context.Context, deb io.Reader, dir string) (*Kernel, error) {
	sp, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	defer sp.Close()
	x := &kernelReader{
		dir: dir, spool: sp, modules: &packedModules{packed: map[string]packedModule{}, info: map[string]initramfs.ModInfo{}},
	}
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
	if err := x.choose(); err != nil {
		return nil, fault.New(fault.Input, "read kernel package", "%s: %w", x.kernel.Release, err).
			WithRemedy("Use a kernel that has virtio and EROFS, such as Debian's linux-image.")
	}
	return &x.kernel, nil
}

// choose writes the modules that are needed beside the kernel.
func (x *kernelReader) choose() error {
	first, err := initramfs.LoadOrder(initramfs.Wanted, x.modules)
	if err != nil {
		return err
	}
	drivers, err := initramfs.Present(initramfs.Drivers, x.modules)
	if err != nil {
		return err
	}
	all, err := initramfs.LoadOrder(slices.Concat(first, drivers), x.modules)
	if err != nil {
		return err
	}
	for i, name := range all {
		file := filepath.Join(x.dir, name+".ko")
		if err := x.modules.unpack(name, file); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		if i < len(first) {
			x.kernel.Modules = append(x.kernel.Modules, file)
		} else {
			x.kernel.Drivers = append(x.kernel.Drivers, file)
		}
	}
	return nil
}

// bootImage makes the quickest form of the kernel: the bzImage itself where there is no other.
func bootImage(dir string) (string, error) {
	bz, elf := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "vmlinux")
	f, err := os.Open(bz)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch err := unpackVmlinux(f, elf); {
	case err == nil:
		return elf, nil
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
	modules *packedModules
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

func (x *kernelReader) file(h *tar.Header, r io.Reader) (err error) {
	name := strings.TrimPrefix(h.Name, "usr/")
	switch {
	case strings.HasPrefix(name, "boot/vmlinuz-"):
		x.kernel.Release = strings.TrimPrefix(name, "boot/vmlinuz-")
		x.kernel.Vmlinuz, err = x.keep("vmlinuz", h.Size, maxKernel, r)
	case strings.HasPrefix(name, "boot/System.map-"):
		x.kernel.SystemMap, err = x.keep("System.map", h.Size, maxMap, r)
	case !strings.HasPrefix(name, "lib/modules/"):
	case path.Base(name) == "modules.builtin":
		var text []byte
		text, err = readList(h.Size, r)
		x.modules.builtin = initramfs.Builtin(string(text))
	case path.Base(name) == "modules.builtin.modinfo":
		var data []byte
		data, err = readList(h.Size, r)
		x.modules.builtinAliases = initramfs.BuiltinAliases(data)
	case path.Base(name) == "modules.dep":
		var text []byte
		if text, err = readList(h.Size, r); err == nil {
			x.modules.deps, err = initramfs.ParseDep(string(text))
		}
	case wantedPlace(name):
		var data content
		data, err = x.spool.add(r, h.Size)
		x.modules.packed[initramfs.ModuleName(name)] = packedModule{path: name, size: h.Size, data: data}
	}
	return err
}

// keep writes a file of the package into the folder.
func (x *kernelReader) keep(name string, size, limit int64, r io.Reader) (string, error) {
	if size > limit {
		return "", fmt.Errorf("has %d bytes, more than %d", size, limit)
	}
	to := filepath.Join(x.dir, name)
	return to, writeFile(to, r)
}

func readList(size int64, r io.Reader) ([]byte, error) {
	if size > maxList {
		return nil, fmt.Errorf("has %d bytes, more than %d", size, maxList)
	}
	return io.ReadAll(r)
}

// isModule: modules may be compressed in the ways that CONFIG_MODULE_COMPRESS offers.
var isModule = regexp.MustCompile(`\.ko(\.gz|\.xz|\.zst)?$`)

// wantedPlace leaves out the drivers of hardware that no virtual machine has: they are most of the package, and
// reading each for its dependencies costs more than all else. What the guest's modules need lies elsewhere.
func wantedPlace(name string) bool {
	if !isModule.MatchString(name) {
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

func writeFile(file string, r io.Reader) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close() // on its way into a store, which syncs
}
