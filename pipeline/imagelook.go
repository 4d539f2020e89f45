package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
)

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
