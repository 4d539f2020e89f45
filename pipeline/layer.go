package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	out, discard, err := h.layerFile(o.Out)
	if err != nil {
		return nil, err
	}
	defer discard()
	from := h.openPackages(ctx, p.locked)
	defer from.wait()
	res := &LayerResult{Guest: p.guest.Name, Packages: len(from.all), Ready: from.ready}
	count := fmt.Sprintf("%d packages", res.Packages)
	if _, err := h.phase(PhaseUnpack, "", count, func() (string, error) {
		return "every package unpacked, none configured", h.unpack(ctx, p, from, out)
	}); err != nil {
		return nil, err
	}
	if res.Size, err = out.Seek(0, 2); err != nil {
		return nil, fault.New(fault.Host, "write layer", "%w", err)
	}
	if o.Out != "" {
		if res.Path, err = keepLayer(out, o.Out); err != nil {
			return nil, err
		}
	}
	from.wait()
	res.Took = time.Since(started)
	return res, nil
}

// layerFile is the file that a layer is written to: beside its final place, or in the store's folder for temporaries.
func (h *house) layerFile(path string) (_ *os.File, discard func(), err error) {
	if path == "" {
		t, err := h.store.TempFile("layer-*")
		if err != nil {
			return nil, nil, err
		}
		return t.File, t.Discard, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".belljar-layer-*")
	if err != nil {
		return nil, nil, fault.New(fault.Host, "write layer", "%w", err).
			WithRemedy("give the path of a file in a folder that you may write")
	}
	return f, func() { f.Close(); os.Remove(f.Name()) }, nil
}

// keepLayer gives the finished file its name.
func keepLayer(f *os.File, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return "", fault.New(fault.Host, "write layer", "%w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return "", fault.New(fault.Host, "write layer", "%w", err)
	}
	return path, nil
}
