package pipeline

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/belljar/belljar/specs"
)

// ImageInfo is one line of 'belljar image ls', and most of what 'belljar image build' says.
type ImageInfo struct {
	Digest   string    `json:"digest"` // SHA-256 of the root disk
	Size     int64     `json:"size"`
	RootHash string    `json:"root_hash,omitempty"` // of dm-verity
	Guest    string    `json:"guest,omitempty"`
	Specs    []string  `json:"specs"` // that it was made for or used by; empty: made before that was noted
	Packages int       `json:"packages,omitempty"`
	Made     time.Time `json:"made,omitzero"`
	Used     time.Time `json:"used,omitzero"`
	Missing  bool      `json:"missing,omitempty"` // the store has lost its disk
	Identity string    `json:"identity"`
}

// ImageResult is what 'belljar image build' came to.
type ImageResult struct {
	ImageInfo
	Path   string        `json:"path"` // in the store; read-only
	Run    string        `json:"run,omitempty"`
	Cached bool          `json:"cached"`
	Accel  string        `json:"accel,omitempty"`
	Parts  []Part        `json:"parts"`
	Took   time.Duration `json:"took_ns"`
	Kept   bool          `json:"-"` // making it failed, its guest was kept, and that has been ended since
}

// imageUse is what is remembered of an image beside its bytes. Entries from before it was noted have none.
type imageUse struct {
	Guest      string
	Specs      []string
	Packages   int
	Made, Used time.Time
}

// useNoted is how old a note of use may be before it is written anew.
const useNoted = time.Minute

// noteUse remembers for whom an image was made and when it was used last. It is a note for people: if it cannot be
// written, the build goes on.
func (h *house) noteUse(id string, p *plan, b builtImage, made bool) builtImage {
	spec, now := p.loaded.Spec.Name, time.Now().UTC().Truncate(time.Second)
	known := slices.Contains(b.Use.Specs, spec)
	if known && !made && now.Sub(b.Use.Used) < useNoted {
		return b
	}
	if !known {
		b.Use.Specs = append(slices.Clone(b.Use.Specs), spec)
		slices.Sort(b.Use.Specs)
	}
	b.Use.Guest, b.Use.Packages, b.Use.Used = p.guest.Name, imagePackages(p.locked), now
	if made {
		b.Use.Made = now
	}
	_ = h.store.Bind("images", id, b)
	return b
}

// imagePackages counts the packages in a guest's image: all but its kernel.
func imagePackages(g *specs.LockedGuest) int {
	n := 0
	for _, p := range g.Packages {
		if !p.Kernel {
			n++
		}
	}
	return n
}

// ImageBuild makes the image of a spec's guest as a build would, or finds it in the store.
func ImageBuild(ctx context.Context, cfg Config, o BuildOptions) (_ *ImageResult, err error) {
	started := time.Now()
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	lock := *p.lock
	lock.Sources = nil // an image holds none
	p.lock = &lock
	j, err := h.newJob(ctx, p, o, started)
	if err != nil {
		return nil, err
	}
	res := &ImageResult{Parts: []Part{}}
	r := j.asked
	built, ok, err := h.knownImage(r.imageID)
	if err != nil {
		return nil, err
	}
	if ok {
		_, err := h.verified(ctx, built.Root)
		switch {
		case err == nil:
			res.Cached, r.image = true, h.noteUse(r.imageID, p, built, false)
			return r.imageResult(res), nil
		case ctx.Err() != nil:
			return nil, err
		}
		h.report(Event{Kind: Warning, Text: err.Error() + "; making it again"})
	}
	if j.run, err = h.newRun(ctx, "image build "+p.loaded.Spec.Name); err != nil {
		return nil, err
	}
	res.Run = j.run.ID()
	h.followPhases(j.run)
	if err := r.prepare(ctx); err != nil {
		res.Kept = h.kept
		return res, errors.Join(err, j.finish(ctx, err))
	}
	res.Accel, res.Parts = string(r.decision.Accel), j.parts
	return r.imageResult(res), j.finish(ctx, nil)
}

func (j *jar) imageResult(res *ImageResult) *ImageResult {
	res.ImageInfo = imageInfo(j.imageID, j.image)
	res.Path = j.store.Path(j.image.Root)
	res.Took = time.Since(j.started)
	return res
}

func imageInfo(id string, b builtImage) ImageInfo {
	return ImageInfo{
		Digest: string(b.Root), Size: b.Size, RootHash: b.RootHash, Guest: b.Use.Guest,
		Specs:    append([]string{}, b.Use.Specs...),
		Packages: b.Use.Packages, Made: b.Use.Made, Used: b.Use.Used, Identity: id,
	}
}

// Images lists the images in the store, the one used last at the end.
func Images(cfg Config) ([]ImageInfo, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	return h.images()
}

func (h *house) images() ([]ImageInfo, error) {
	ids, err := h.store.List("images")
	if err != nil {
		return nil, err
	}
	all := []ImageInfo{}
	for _, id := range ids {
		var b builtImage
		if ok, err := h.store.Lookup("images", id, &b); err != nil {
			return nil, err
		} else if !ok {
			continue // taken away in between
		}
		info := imageInfo(id, b)
		info.Missing = !h.store.Has(b.Root)
		all = append(all, info)
	}
	slices.SortStableFunc(all, func(a, b ImageInfo) int { return a.Used.Compare(b.Used) })
	return all, nil
}
