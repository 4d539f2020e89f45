package pipeline

import (
	"context"
	"time"

	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// jar is what the stages of one spec run in: its guest with the image that its lock fills. A build whose spec needs
// others has several.
type jar struct {
	*job
	*plan
	imageID string // the image's identity

	brought  bool // what the lock pins is in the store, and whole
	chosen   bool // bundle and decision are made
	prepared bool // image too
	bundle   *bundle
	decision vm.Decision
	image    builtImage
}

// jar is the one of a spec; there is one of each.
func (j *job) jar(p *plan) *jar {
	name := p.loaded.Spec.Name
	if j.jars[name] == nil {
		j.jars[name] = &jar{job: j, plan: p, imageID: imageIdentity(p.guest, p.locked, j.agent)}
	}
	return j.jars[name]
}

// bring fetches what the lock pins and the store lacks, and hashes all of it once more.
func (j *jar) bring(ctx context.Context) error {
	if j.brought {
		return nil
	}
	items := pinned(j.lock, j.locked)
	if j.opts.Offline {
		if err := j.needStored(items, j.opts.Spec); err != nil {
			return err
		}
	}
	_, parts, err := j.fetchMissing(ctx, items)
	j.parts = append(j.parts, parts...)
	if err != nil {
		return err
	}
	if err := j.verifyAll(ctx, items); err != nil {
		return err
	}
	j.brought = true
	return nil
}

// choose settles kernel and accelerator.
func (j *jar) choose(ctx context.Context) error {
	if j.chosen {
		j.pace = j.decision.Pace
		return nil
	}
	err := j.bring(ctx) // the bundle is made of packages
	if err != nil {
		return err
	}
	if j.bundle, err = j.house.bundle(ctx, j.guest, j.locked); err != nil {
		return err
	}
	start := time.Now()
	if j.decision, err = j.decideAccel(ctx, j.opts.Accel, j.plan, j.bundle, j.run); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Second {
		j.parts = append(j.parts, Part{Phase: PhaseAccel, Took: took})
	}
	j.chosen = true
	return nil
}

// prepare brings in all that a guest of this jar needs: files, kernel, accelerator, image.
func (j *jar) prepare(ctx context.Context) error {
	if err := j.bring(ctx); err != nil {
		return err
	}
	if err := j.choose(ctx); err != nil || j.prepared {
		return err
	}
	built, parts, err := j.house.image(ctx, j.plan, j.bundle, j.imageID, j.decision.Accel, j.run)
	j.parts = append(j.parts, parts...)
	if err != nil {
		return err
	}
	j.image, j.prepared = j.noteUse(j.imageID, j.plan, built, len(parts) > 0), true
	return nil
}

// usedImage is what is remembered of what a stage's guest was booted from.
type usedImage struct {
	Root, Kernel, Initramfs store.Digest
	Size                    int64 // of the root
	RootHash                string
}

func (j *jar) used() usedImage {
	return usedImage{j.image.Root, j.bundle.Kernel, j.bundle.Initramfs, j.image.Size, j.image.RootHash}
}
