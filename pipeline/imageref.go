package pipeline

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
	_, ok := specs.FindShipped(name)
	return ok || strings.HasSuffix(name, ".yaml")
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
