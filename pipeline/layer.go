package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// LayerOptions are those of 'belljar image layer'.
type LayerOptions struct {
	Spec  string
	Lock  string // path of the lock; empty: the spec's own
	Guest string // empty: the spec's first
	Out   string // path of the disk; empty: it is written, timed and dropped
}

// LayerResult is what writing the first layer came to.
type LayerResult struct {
	Guest    string        `json:"guest"`
	Packages int           `json:"packages"`
	Ready    int           `json:"ready"` // packages that were read in the form that the store keeps for speed
	Path     string        `json:"path,omitempty"`
	Size     int64         `json:"size"`
	Took     time.Duration `json:"took_ns"`
}

// Layer writes the first layer of a guest's image, which is the host's part of the work: every package unpacked, none
// configured. The packages must be in the store.
func Layer(ctx context.Context, cfg Config, o LayerOptions) (_ *LayerResult, err error) {
	started := time.Now()
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	lock := *p.lock
	lock.Sources = nil // an image holds none
	items := pinned(&lock, p.locked)
	if err := h.needStored(items, o.Spec); err != nil {
		return nil, err
	}
	if err := h.verifyAll(ctx, items); err != nil {
		return nil, err
	}
	from := h.openPackages(ctx, p.locked)
	defer from.wait()
	res := &LayerResult{Guest: p.guest.Name, Packages: len(from.all), Ready: from.ready}
	err = h.writeLayer(o.Out, res, func(out *os.File) error {
		_, err := h.phase(PhaseUnpack, "", fmt.Sprintf("%d packages", res.Packages), func() (string, error) {
			return "every package unpacked, none configured", h.unpack(ctx, p, from, out)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	from.wait()
	res.Took = time.Since(started)
	return res, nil
}

// writeLayer has write fill a file: the one at a path, or one that is dropped.
func (h *house) writeLayer(path string, res *LayerResult, write func(*os.File) error) error {
	measured := func(f *os.File) error {
		if err := write(f); err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			res.Size = info.Size()
		}
		return err
	}
	if path == "" {
		t, err := h.store.TempFile("layer-*")
		if err != nil {
			return err
		}
		defer t.Discard()
		return measured(t.File)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	res.Path = path
	err = atomicfile.FileFunc(path, 0o644, measured)
	if fault.KindOf(err) == fault.Unknown && err != nil && !errors.Is(err, context.Canceled) { // the file's, not the packages'
		return fault.New(fault.Host, "write layer", "%w", err).
			WithRemedy("give the path of a file in a folder that you may write")
	}
	return err
}
