package pipeline

import (
	"context"
	"io"
	"sync"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// The kind of ref that binds a package's digest to the same package in the form that is unpacked fastest.
const readyKind = "ready"

// readyForm is what is remembered of such a package.
type readyForm struct {
	Object store.Digest
	Form   string // debian.RepackForm when it was made
}

// readyMin is the size from which on a package is kept a second time: those above it are four in ten, and hold
// nineteen bytes in twenty.
const readyMin = 128 << 10

// packages are those of a guest's image, each to be read in the form that is unpacked fastest: the first image that
// needs a package reads it as it came and leaves it behind packed by zstd, for all images after it.
type packages struct {
	all   []image.Package
	ready int // of them are read in that form

	h       *house
	ctx     context.Context
	writing sync.WaitGroup
}

// openPackages lists a guest's packages. Whoever calls it waits in the end for what is being kept.
func (h *house) openPackages(ctx context.Context, lg *specs.LockedGuest) *packages {
	ps := &packages{h: h, ctx: ctx}
	for _, lp := range lg.Packages {
		if lp.Kernel {
			continue
		}
		digest := store.Digest(lp.SHA256)
		pkg := image.Package{Name: lp.Name, Version: lp.Version, Arch: lp.Arch, Size: lp.Size}
		if form, ok := h.readyForm(ctx, digest); ok {
			ps.ready++
			digest = form
		} else if lp.Size >= readyMin {
			pkg.Repack = func() (io.WriterAt, func(error)) { return ps.keep(store.Digest(lp.SHA256)) }
		}
		pkg.Open = func() (io.ReadCloser, error) { return h.store.Open(digest) }
		ps.all = append(ps.all, pkg)
	}
	return ps
}

// readyForm finds a package's form in the store, whole. One that is damaged is moved aside, and made again.
func (h *house) readyForm(ctx context.Context, pkg store.Digest) (store.Digest, bool) {
	var form readyForm
	ok, err := h.store.Lookup(readyKind, string(pkg), &form)
	if !ok || err != nil || form.Form != debian.RepackForm {
		return "", false
	}
	return form.Object, h.store.Has(form.Object) && h.store.Verify(ctx, form.Object) == nil
}

// keep takes a package into the store once more. It saves the next image some seconds and owes this one nothing, so
// that what goes wrong with it (a full disk) is passed over: the same disk is needed for more important things.
func (ps *packages) keep(pkg store.Digest) (io.WriterAt, func(error)) {
	t, err := ps.h.store.TempFile("ready-*")
	if err != nil {
		return nil, nil
	}
	return t, func(err error) {
		if err != nil {
			t.Discard()
			return
		}
		ps.writing.Go(func() {
			defer t.Discard()
			if object, _, err := t.Commit(ps.ctx); err == nil {
				_ = ps.h.store.Bind(readyKind, string(pkg), readyForm{object, debian.RepackForm})
			}
		})
	}
}

// wait returns when nothing is being written any more.
func (ps *packages) wait() { ps.writing.Wait() }
