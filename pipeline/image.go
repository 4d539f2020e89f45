package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// What the disk of a guest is found by. See image/initramfs.
const (
	diskRoot    = "root"
	diskInputs  = "inputs"
	diskScratch = "scratch"
	diskOutputs = "outputs"
)

// outputsSize bounds what a stage may hand over. The file is sparse: it takes what is written.
const outputsSize = 16 << 30

// builtImage is what is remembered of an image.
type builtImage struct {
	Root     store.Digest // the root disk
	Size     int64
	RootHash string // of its dm-verity hash tree: what the guest's kernel holds each block of the root against
	Use      imageUse
}

// image finds the root disk of a guest in the store, or makes it: unpacked by the host, configured in a guest, merged.
// Of several that need the same image one makes it, and the others wait for it.
func (h *house) image(ctx context.Context, p *plan, b *bundle, id string, accel vm.Accel, run *vm.Run,
) (builtImage, []Part, error) {
	built, ok, err := h.knownImage(id)
	if ok || err != nil {
		return built, nil, err
	}
	release, err := h.store.Claim(ctx, "images", id, func() {
		h.note(PhaseImage, "another belljar is making this image: waiting for it")
	})
	if err != nil {
		return built, nil, err
	}
	defer release()
	if built, ok, err = h.knownImage(id); ok || err != nil {
		return built, nil, err
	}
	return h.makeImage(ctx, p, b, id, accel, run)
}

// knownImage looks an image up. One whose disk has gone is as unknown as one that was never made.
func (h *house) knownImage(id string) (built builtImage, ok bool, err error) {
	ok, err = h.store.Lookup("images", id, &built)
	return built, ok && built.RootHash != "" && h.store.Has(built.Root), err
}

func (h *house) makeImage(ctx context.Context, p *plan, b *bundle, id string, accel vm.Accel, run *vm.Run,
) (builtImage, []Part, error) {
	var built builtImage
	base, err := h.store.TempFile("base-*")
	if err != nil {
		return built, nil, err
	}
	defer base.Discard()
	from := h.openPackages(ctx, p.locked)
	defer from.wait()
	count := fmt.Sprintf("%d packages", len(p.locked.Packages)-1) // without the kernel
	unpack, err := h.phase(PhaseUnpack, "", count, func() (string, error) {
		return "every package unpacked, none configured", h.unpack(ctx, p, from, base.File)
	})
	if err != nil {
		return built, nil, err
	}
	root, err := h.store.TempFile("root-*")
	if err != nil {
		return built, nil, err
	}
	defer root.Discard()
	var diff string
	var changed int64
	configure, err := h.phase(PhaseConfigure, "", "dpkg --configure in a guest", func() (string, error) {
		err := h.retried(ctx, PhaseConfigure, "", func(attempt int) error {
			dir, err := run.Dir(numbered("configure"+p.mark, attempt))
			if err != nil {
				return err
			}
			diff = filepath.Join(dir, "diff.tar")
			changed, err = h.configure(ctx, p, b, accel, base.File, dir, diff, run)
			return err
		})
		return fmt.Sprintf("%s of changes", size(changed)), err
	})
	defer func() { _ = os.Remove(diff) }() // what is left of it goes with the run
	if err != nil {
		return built, nil, err
	}
	merge, err := h.phase(PhaseImage, "", "both layers merged", func() (string, error) {
		if built.RootHash, err = h.merge(ctx, p, base.File, root.File, diff); err != nil {
			return "", err
		}
		built.Root, built.Size, err = root.Commit(ctx)
		return fmt.Sprintf("root disk %s, sha256 %s", size(built.Size), built.Root.Short()), err
	})
	if err != nil {
		return built, nil, err
	}
	return built, []Part{unpack, configure, merge}, h.store.Bind("images", id, built)
}

// unpack writes the first layer.
func (h *house) unpack(ctx context.Context, p *plan, from *packages, out *os.File) error {
	return image.WriteBase(ctx, out, from.all, image.BaseOptions{
		Clock: p.locked.Clock, TempDir: filepath.Dir(out.Name()),
		Progress: func(done, total int) {
			h.report(Event{
				Kind: Progress, Phase: PhaseUnpack, Done: int64(done), Total: int64(total), Unit: "packages",
			})
		},
	})
}

// configure boots the first layer and lets dpkg finish its work there. What it changed comes back on the output disk, and
// is kept as the archive diff.
func (h *house) configure(ctx context.Context, p *plan, b *bundle, accel vm.Accel, base *os.File, dir, diff string,
	run *vm.Run,
) (size int64, err error) {
	outputs := filepath.Join(dir, "outputs.img")
	if err := sparse(outputs, outputsSize); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(outputs)) }()
	m := machine(p.guest, p.locked)
	m.Name, m.Accel = "configure", accel
	m.Disks = []vm.Disk{
		{Serial: diskRoot, Path: base.Name(), Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: diskOutputs, Path: outputs, Bus: vm.BusVirtio},
	}
	g, err := h.boot(ctx, dir, m, b, PhaseConfigure, "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if size, err = h.configureIn(ctx, g, p.locked.Clock, dir, diff); err != nil {
		h.keep(ctx, run, g, PhaseConfigure, err)
	}
	return size, err
}

// configureIn has a guest configure its packages, and takes what changed to the file diff.
func (h *house) configureIn(ctx context.Context, g *booted, clock time.Time, dir, diff string) (int64, error) {
	logFile, err := os.Create(filepath.Join(dir, "stage.log"))
	if err != nil {
		return 0, fault.New(fault.Host, "configure", "%w", err)
	}
	defer logFile.Close()
	var said image.ConfigureLog
	show := h.stageLog(logFile, PhaseConfigure, "")
	res, err := g.Run(g.ctx, configureStage(h.pace), func(line string) {
		said.Line(line)
		show(line)
	})
	if err != nil {
		return 0, configureFault(g.explain(err), res.Reason, &said)
	}
	upper := wire.Capture{Upper: "/belljar/overlay/upper", Clock: clock, Device: diskOutputs}
	got, err := g.Capture(g.ctx, upper)
	if err != nil {
		return 0, g.explain(err)
	}
	return got.Stream.Size, g.keepStream(ctx, diskOutputs, got.Stream, diff)
}

// keepStream copies what the guest wrote to a disk into a file, and holds it against the digest that the guest gave.
func (g *booted) keepStream(ctx context.Context, serial string, s wire.Stream, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Host, "keep "+serial, "%w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return provision.CopyStream(ctx, g.disk(serial), s, f)
}

func (h *house) merge(ctx context.Context, p *plan, base, out *os.File, diff string) (rootHash string, err error) {
	f, err := os.Open(diff)
	if err != nil {
		return "", fault.New(fault.Host, "merge", "%w", err)
	}
	defer f.Close()
	return image.Merge(ctx, out, base, f, image.MergeOptions{
		Arch: p.locked.Arch, Clock: p.locked.Clock, TempDir: filepath.Dir(out.Name()),
	})
}

// sparse makes a file of zeros that takes no space.
func sparse(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Host, "make disk", "%w", err)
	}
	return errors.Join(f.Truncate(n), f.Close())
}

// inputTrees are the folders of the input disk with the sources, unpacked.
func (h *house) inputTrees(sources []specs.LockedSource) ([]image.Tree, error) {
	var trees []image.Tree
	for _, s := range sources {
		t, err := SourceTree(h.store, s)
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	return trees, nil
}

// SourceTree is a source's folder on an input disk, of files in the store.
func SourceTree(st *store.Store, s specs.LockedSource) (image.Tree, error) {
	t := image.Tree{Name: s.Name}
	for _, f := range s.Files {
		t.Parts = append(t.Parts, image.Part{
			File: f.Name, Open: func() (io.ReadCloser, error) { return st.Open(store.Digest(f.SHA256)) },
		})
	}
	if s.Kind != specs.KindDebian {
		return t, nil
	}
	if err := checkDSC(st, s); err != nil {
		return t, err
	}
	return image.DebianTree(s.Name, t.Parts)
}

// checkDSC holds a Debian source package's own list of its files against the lock's.
func checkDSC(st *store.Store, s specs.LockedSource) error {
	var have []debian.FileHash
	var dsc *debian.DSC
	for _, f := range s.Files {
		have = append(have, debian.FileHash{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
		if !strings.HasSuffix(f.Name, ".dsc") {
			continue
		}
		data, err := st.ReadAll(store.Digest(f.SHA256))
		if err != nil {
			return err
		}
		if dsc, err = debian.ParseDSC(f.Name, data); err != nil {
			return err
		}
	}
	if dsc == nil {
		return fault.New(fault.Input, "source "+s.Name, "the lock names no .dsc file").WithRemedy("lock the spec again")
	}
	return dsc.Check(have)
}
