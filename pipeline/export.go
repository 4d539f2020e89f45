package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/image/qcow2"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// The formats in which an image is handed to other tools.
const (
	FormatRaw      = "raw"
	FormatQcow2    = "qcow2"
	FormatSquashfs = "squashfs"
	FormatTar      = "tar"
)

// ExportFormats lists them.
var ExportFormats = []string{FormatRaw, FormatQcow2, FormatSquashfs, FormatTar}

// ExportOptions are those of 'belljar image export'.
type ExportOptions struct {
	Image  ImageRef
	Format string
	Out    string // path; "-" is Stdout; empty: the image's name with the format's ending, in the current folder
	Kernel string // for raw and qcow2, of an image that is no spec: the spec whose kernel boots it
	Force  bool   // replace a file that is there
	Stdout io.Writer
}

// ExportResult is what an export came to.
type ExportResult struct {
	Path     string        `json:"path"`
	Format   string        `json:"format"`
	SHA256   string        `json:"sha256,omitempty"` // not of what went to stdout
	Size     int64         `json:"size"`
	OnDisk   int64         `json:"on_disk,omitempty"` // less than Size where zeros take no room
	Boots    bool          `json:"boots"`             // by itself, under UEFI
	Arch     string        `json:"arch,omitempty"`    // of what boots
	Kernel   string        `json:"kernel,omitempty"`  // its release
	RootHash string        `json:"root_hash,omitempty"`
	Took     time.Duration `json:"took_ns"`
}

// ImageExport writes an image in another tool's format. The file appears when it is whole.
func ImageExport(ctx context.Context, cfg Config, o ExportOptions) (_ *ExportResult, err error) {
	started := time.Now()
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	x := &export{house: h, o: o, res: ExportResult{Format: o.Format}}
	defer func() { err = x.outFull(diskFull(err, cfg.Dir)) }()
	if err := x.check(); err != nil {
		return nil, err
	}
	err = h.withImage(ctx, o.Image, false, func(m *image.Image) error {
		x.opts = image.ExportOptions{Clock: m.Newest(), Progress: x.progress}
		_, err := h.phase(PhaseExport, "", o.Format+" of "+m.Name, func() (string, error) {
			if err := x.write(ctx, m); err != nil {
				return "", err
			}
			return fmt.Sprintf("%s, %s", x.res.Path, size(x.res.Size)), nil
		})
		return err
	})
	x.res.Took = time.Since(started)
	return &x.res, err
}

// export is one export under way.
type export struct {
	*house
	o    ExportOptions
	opts image.ExportOptions
	res  ExportResult
}

func (x *export) progress(done, all int64) {
	x.report(Event{Kind: Progress, Phase: PhaseExport, Done: done, Total: all, Unit: "bytes"})
}

// disk says that the format is a whole disk, which boots.
func (x *export) disk() bool { return x.o.Format == FormatRaw || x.o.Format == FormatQcow2 }

// check refuses what cannot work, before any work is done.
func (x *export) check() error {
	switch {
	case !slices.Contains(ExportFormats, x.o.Format):
		return fault.New(fault.Usage, "", "no such format: %q", x.o.Format).
			WithRemedy("formats: %s", strings.Join(ExportFormats, ", "))
	case x.o.Kernel != "" && !x.disk():
		return fault.New(fault.Usage, "", "a %s boots nothing: it takes no kernel", x.o.Format)
	case x.o.Out == "-" && x.o.Format != FormatTar:
		return fault.New(fault.Usage, "", "a %s cannot go to stdout: its beginning is written last", x.o.Format).
			WithRemedy("name a file with --output; a tar can be piped")
	case x.o.Out == "-":
		x.res.Path = "-"
		return nil
	}
	if x.o.Out == "" {
		x.o.Out = outName(x.o.Image) + "." + x.o.Format
	}
	x.res.Path = x.o.Out
	return x.checkOut()
}

// outName is what an image's export is called where nobody said.
func outName(ref ImageRef) string {
	name := filepath.Base(ref.Image)
	for ext := filepath.Ext(name); ext != "" && len(ext) <= 6 && ext != name; ext = filepath.Ext(name) {
		name = strings.TrimSuffix(name, ext)
	}
	if ref.Guest != "" {
		name += "-" + ref.Guest
	}
	return name
}

// checkOut holds that the file can be written, and is not one that somebody wants to keep.
func (x *export) checkOut() error {
	op := "export to " + x.o.Out
	info, err := os.Stat(x.o.Out)
	switch {
	case err == nil && info.IsDir():
		return fault.New(fault.Input, op, "it is a folder").WithRemedy("name a file in it: --output %s",
			filepath.Join(x.o.Out, outName(x.o.Image)+"."+x.o.Format))
	case err == nil && !info.Mode().IsRegular():
		return fault.New(fault.Input, op, "it is no file").
			WithRemedy("export to a file; dd(1) writes a raw one to a device")
	case err == nil && !x.o.Force:
		return fault.New(fault.Input, op, "it is there already").WithRemedy("replace it with --force, or name another file")
	case err == nil:
		if image, err := os.Stat(x.o.Image.Image); err == nil && os.SameFile(image, info) {
			return fault.New(fault.Input, op, "it is the image itself").WithRemedy("name another file")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Input, op, "%w", errors.Unwrap(err))
	}
	dir := filepath.Dir(x.o.Out)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Input, op, "there is no folder %s", dir).WithRemedy("make it: mkdir -p %s", dir)
	case err != nil:
		return fault.New(fault.Input, op, "%w", errors.Unwrap(err))
	case !info.IsDir():
		return fault.New(fault.Input, op, "%s is no folder", dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fault.New(fault.Input, op, "the folder %s: %w", dir, err).
			WithRemedy("name a file in a folder that you may write")
	}
	return nil
}

// outFull tells of a full disk by the folder whose disk it is.
func (x *export) outFull(err error) error {
	path, ok := errors.AsType[*fs.PathError](err)
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
	if !ok || !full || x.o.Out == "" || filepath.Dir(path.Path) != filepath.Dir(x.o.Out) {
		return err
	}
	return fault.New(fault.Host, "export to "+x.o.Out, "%w", path.Err).
		WithRemedy("make room on the disk of %s, or name a file on another with --output; nothing was left there",
			filepath.Dir(x.o.Out))
}

// write writes the export to where it belongs.
func (x *export) write(ctx context.Context, m *image.Image) error {
	if x.o.Out == "-" {
		w := &counter{w: x.o.Stdout}
		err := m.ExportTar(ctx, w, x.opts)
		x.res.Size = w.n
		return err
	}
	return atomicfile.FileFunc(x.o.Out, 0o644, func(f *os.File) error {
		if err := x.fill(ctx, m, f); err != nil {
			return err
		}
		return x.measure(ctx, f)
	})
}

func (x *export) fill(ctx context.Context, m *image.Image, f *os.File) error {
	switch x.o.Format {
	case FormatTar:
		return m.ExportTar(ctx, f, x.opts)
	case FormatSquashfs:
		_, err := m.ExportSquashfs(ctx, f, x.opts)
		return err
	}
	boot, err := x.boot(ctx, m)
	if err != nil {
		return err
	}
	disk, err := m.BootDisk(ctx, boot, filepath.Join(x.store.Dir(), "tmp"), x.opts)
	if err != nil {
		return err
	}
	defer disk.Close()
	x.res.Boots, x.res.Arch, x.res.RootHash = true, boot.Arch, disk.RootHash
	if x.o.Format == FormatRaw {
		return disk.WriteSparse(ctx, f, x.opts)
	}
	_, err = qcow2.Write(ctx, f, disk, disk.Size, qcow2.Options{Progress: x.progress})
	return err
}

// measure hashes what was written.
func (x *export) measure(ctx context.Context, f *os.File) error {
	sum := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var err error
	if x.res.Size, err = io.CopyBuffer(sum, stoppable{ctx, f}, make([]byte, 1<<20)); err != nil {
		return err
	}
	x.res.SHA256 = hex.EncodeToString(sum.Sum(nil))
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err == nil && st.Blocks*512 < x.res.Size {
		x.res.OnDisk = st.Blocks * 512
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// cmdline is what a kernel is told that boots on a machine that nobody knows: both consoles, the serial one last, so
// that its messages go there. QEMU's timer is misjudged by the kernel's check of it where the host is busy.
const cmdline = "console=tty0 console=ttyS0,115200 quiet no_timer_check"

// boot is what makes the image boot by itself: the locked kernel with its initramfs, and the image's own boot loader.
func (x *export) boot(ctx context.Context, m *image.Image) (*image.Boot, error) {
	p, err := x.plan()
	if err != nil {
		return nil, err
	}
	loader, err := m.FindLoader(p.guest.Arch)
	if err != nil {
		return nil, err
	}
	self, err := x.selfBoot(ctx, p.guest, p.locked)
	if err != nil {
		return nil, err
	}
	x.res.Kernel = self.Release
	b := &image.Boot{
		Arch: p.guest.Arch, Title: m.OSName() + ", Linux " + self.Release, Cmdline: cmdline,
		Loader: loader, FindRoot: initramfs.SelfBoot,
	}
	if b.Kernel, err = x.bootFile(self.Vmlinuz); err != nil {
		return nil, err
	}
	b.Initramfs, err = x.bootFile(self.Initramfs)
	return b, err
}

func (x *export) bootFile(d store.Digest) (image.BootFile, error) {
	n, err := x.store.Size(d)
	return image.BootFile{Size: n, Open: func() (io.ReadCloser, error) { return x.store.Open(d) }}, err
}

// plan finds the spec whose kernel boots the image: the one that was named, or that the image was made for.
func (x *export) plan() (*plan, error) {
	ref := x.o.Image
	if x.o.Kernel != "" {
		return makePlan(x.o.Kernel, "", ref.Guest)
	}
	if isSpec(ref.Image) {
		return makePlan(ref.Image, ref.Lock, ref.Guest)
	}
	found, err := x.findImage(ref)
	if err != nil {
		return nil, err
	}
	if found.Root != "" {
		all, err := x.images()
		if err != nil {
			return nil, err
		}
		for _, info := range all {
			for _, spec := range info.Specs {
				if _, ok := specs.FindShipped(spec); ok && info.Digest == string(found.Root) {
					return makePlan(spec, "", info.Guest)
				}
			}
		}
	}
	return nil, fault.New(fault.Input, "image "+found.Name, "it has no kernel, and an exported %s boots by itself", x.o.Format).
		WithRemedy("name the spec whose kernel it shall have: --kernel SPEC")
}
