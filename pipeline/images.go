package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// ImageRef is what the commands take for an image: a spec (with the guest, empty for its first), the digest of one in
// the store or the beginning of it, or the path of a file.
type ImageRef struct {
	Image string
	Guest string
	Lock  string // of a spec; empty: its own
}

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
	built, ok, err := h.knownImage(j.ids.image)
	if err != nil {
		return nil, err
	}
	if ok {
		_, err := h.verified(ctx, built.Root)
		switch {
		case err == nil:
			res.Cached, j.image = true, h.noteUse(j.ids.image, p, built, false)
			return j.imageResult(res), nil
		case ctx.Err() != nil:
			return nil, err
		}
		h.report(Event{Kind: Warning, Text: err.Error() + "; making it again"})
	}
	if j.run, err = h.runs.Create(ctx, "image build "+p.loaded.Spec.Name); err != nil {
		return nil, err
	}
	res.Run = j.run.ID()
	h.followPhases(j.run)
	if err := j.prepare(ctx); err != nil {
		return res, errors.Join(err, j.finish(ctx, err))
	}
	res.Accel, res.Parts = string(j.decision.Accel), j.parts
	return j.imageResult(res), j.finish(ctx, nil)
}

func (j *job) imageResult(res *ImageResult) *ImageResult {
	res.ImageInfo = imageInfo(j.ids.image, j.image)
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

// foundImage is what an ImageRef came to.
type foundImage struct {
	Name  string       // as messages call it
	Path  string       // of the file
	Root  store.Digest // of one in the store; empty: a file of the user's own
	Guest string       // empty where nobody noted it
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]{2,64}$`)

// findImage finds what a user calls an image. A name with a slash or of a file that is there means the file, unless it
// ends in .yaml; a shipped spec's name means its image; what is left can only be a digest.
func (h *house) findImage(ref ImageRef) (*foundImage, error) {
	name := ref.Image
	if !isSpec(name) {
		info, err := os.Stat(name)
		switch {
		case err == nil && info.IsDir():
			return nil, fault.New(fault.Input, "image "+name, "it is a folder").
				WithRemedy("give the file of an image, or the name or path (SPEC.yaml) of a spec")
		case err == nil:
			return ref.alone(&foundImage{Name: name, Path: name})
		case strings.ContainsRune(name, '/') || !errors.Is(err, fs.ErrNotExist):
			return nil, fault.New(fault.Input, "image "+name, "%w", errors.Unwrap(err)).
				WithRemedy("give the file of an image, a spec, or a digest that 'belljar image ls' shows")
		case hexDigits.MatchString(name):
			found, err := h.imageByDigest(name)
			if err != nil {
				return nil, err
			}
			return ref.alone(found)
		}
		e := fault.New(fault.Input, "image "+name, "it is no file, no spec and no digest")
		if near := debian.Nearest(name, specs.Shipped(), 1); len(near) > 0 {
			return nil, e.WithRemedy("did you mean the spec %s?", near[0])
		}
		return nil, e.WithRemedy("shipped specs: %s; 'belljar image ls' lists the images that are there",
			strings.Join(specs.Shipped(), ", "))
	}
	p, err := makePlan(name, ref.Lock, ref.Guest)
	if err != nil {
		return nil, err
	}
	_, agent, err := provision.Agent(p.guest.Arch)
	if err != nil {
		return nil, err
	}
	built, ok, err := h.knownImage(imageIdentity(p.guest, p.locked, agent))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.New(fault.Input, "image of "+p.loaded.Spec.Name, "the guest %s has none yet", p.guest.Name).
			WithRemedy("run: belljar image build %s --guest %s", name, p.guest.Name)
	}
	return &foundImage{name, h.store.Path(built.Root), built.Root, p.guest.Name}, nil
}

func isSpec(name string) bool {
	return strings.HasSuffix(name, ".yaml") || slices.Contains(specs.Shipped(), name)
}

// alone refuses a guest for what is no spec.
func (ref ImageRef) alone(found *foundImage) (*foundImage, error) {
	if ref.Lock != "" {
		return nil, fault.New(fault.Usage, "", "--lock goes with a spec, and %s is none", ref.Image)
	}
	return found, nil
}

func (h *house) imageByDigest(prefix string) (*foundImage, error) {
	all, err := h.images()
	if err != nil {
		return nil, err
	}
	fits := map[string]ImageInfo{}
	var some []string
	for _, info := range all {
		if strings.HasPrefix(info.Digest, prefix) && !info.Missing {
			fits[info.Digest] = info
			some = append(some, store.Digest(info.Digest).Short())
		}
	}
	switch len(fits) {
	case 0:
		return nil, fault.New(fault.Input, "image "+prefix, "no image in the store has a digest that begins so").
			WithRemedy("'belljar image ls' lists them")
	case 1:
		for _, info := range fits {
			d := store.Digest(info.Digest)
			return &foundImage{d.Short(), h.store.Path(d), d, info.Guest}, nil
		}
	}
	return nil, fault.New(fault.Input, "image "+prefix, "%d images have a digest that begins so: %s",
		len(fits), strings.Join(some, ", ")).WithRemedy("give more of its digits")
}

// slowOpen is after how long somebody wonders what goes on. An image that is not packed takes a tenth of a second.
const slowOpen = 3 * time.Second

// withImage opens an image for as long as use goes on. One from the store is verified first: nothing is told of
// damaged bytes. So is a file that has a root hash; with evenDamaged one that is not what that says is looked at all
// the same, with a warning.
func (h *house) withImage(ctx context.Context, ref ImageRef, evenDamaged bool, use func(*image.Image) error) error {
	release, err := h.store.Pin()
	if err != nil {
		return err
	}
	defer release()
	found, err := h.findImage(ref)
	if err != nil {
		return err
	}
	if found.Root != "" {
		if _, err := h.verified(ctx, found.Root); err != nil {
			return err
		}
	}
	f, err := os.Open(found.Path)
	if err != nil {
		return fault.New(fault.Input, "image "+found.Name, "%w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd) // of a block device as well
	if err != nil {
		return fault.New(fault.Input, "image "+found.Name, "%w", err).
			WithRemedy("give a file: an image is read here and there, which a pipe cannot do")
	}
	slow := time.AfterFunc(slowOpen, func() {
		h.note(PhaseImage, "reading "+found.Name+": a packed image is unpacked first")
	})
	m, err := image.Open(ctx, found.Name, f, size, filepath.Join(h.store.Dir(), "tmp"))
	slow.Stop()
	if err != nil {
		return err
	}
	defer m.Close()
	if found.Root == "" {
		if err := m.CheckRoot(ctx); err != nil && (!evenDamaged || ctx.Err() != nil) {
			return err
		} else if err != nil {
			h.report(Event{Kind: Warning, Text: err.Error()})
		}
	}
	return use(m)
}

// What the commands show is what package image found. The command line knows that package only through these names.
type (
	// ImageReport is what an image is made of.
	ImageReport = image.Report
	// ImageDeviation is one way in which an image is not what its packages say.
	ImageDeviation = image.Deviation
	// ImageFile is one file of an image.
	ImageFile = image.File
	// ImagePackage is a package as an image's dpkg database has it.
	ImagePackage = image.InstalledPackage
	// ImageDiff is what came of a comparison.
	ImageDiff = image.Diff
	// ImageDifference is one thing that two images do not agree in.
	ImageDifference = image.Difference
)

// ImageInspect says what an image is made of, and with verify whether its packages and their files are what they should
// be.
func ImageInspect(ctx context.Context, cfg Config, ref ImageRef, verify bool) (*ImageReport, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	var r *ImageReport
	err = h.withImage(ctx, ref, true, func(m *image.Image) error {
		r = m.Inspect()
		if !verify {
			return nil
		}
		r.Verified = true
		var err error
		r.Deviations, err = m.Verify(ctx)
		return err
	})
	return r, err
}

// ImageList lists a folder of an image, or one file.
func ImageList(ctx context.Context, cfg Config, ref ImageRef, path string, recursive bool) ([]ImageFile, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	var files []ImageFile
	err = h.withImage(ctx, ref, false, func(m *image.Image) error {
		files, err = m.List(path, recursive)
		return err
	})
	return files, err
}

// ImageCat writes a file of an image.
func ImageCat(ctx context.Context, cfg Config, ref ImageRef, path string, w io.Writer) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	return h.withImage(ctx, ref, false, func(m *image.Image) error {
		f, r, err := m.OpenFile(path)
		if err != nil {
			return err
		}
		n, err := io.Copy(w, stoppable{ctx, r})
		if err == nil && n != f.Size {
			err = fault.New(fault.Input, "image "+m.Name, "%s ends after %d of its %d bytes", f.Path, n, f.Size)
		}
		return err
	})
}

// stoppable ends a copy when the context does.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// ImageDiffOptions are those of 'belljar image diff'.
type ImageDiffOptions struct {
	A, B  ImageRef
	MTime bool
	Allow string // path of an allow-list; empty: none
}

// CompareImages compares two images by package and by file.
func CompareImages(ctx context.Context, cfg Config, o ImageDiffOptions) (*ImageDiff, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	opts := image.DiffOptions{MTime: o.MTime}
	if o.Allow != "" {
		data, err := os.ReadFile(o.Allow)
		if err != nil {
			return nil, fault.New(fault.Input, "read allow-list", "%w", err)
		}
		if opts.Allow, err = image.ParseAllowList(o.Allow, data); err != nil {
			return nil, err
		}
	}
	var d *ImageDiff
	_, err = h.phase(PhaseImage, "", fmt.Sprintf("compare %s with %s", o.A.Image, o.B.Image), func() (string, error) {
		err := h.withImage(ctx, o.A, true, func(a *image.Image) error {
			return h.withImage(ctx, o.B, true, func(b *image.Image) (err error) {
				d, err = image.Compare(ctx, a, b, opts)
				return err
			})
		})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d paths, the contents of %d files (%s)", d.Paths, d.Contents, size(d.Bytes)), nil
	})
	return d, err
}
