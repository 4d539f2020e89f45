package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

type imageLsOptions struct {
	ref       pipeline.ImageRef
	path      string
	recursive bool
}

func newImageLs(e *env) *cobra.Command {
	var o imageLsOptions
	c := &cobra.Command{
		Use:   "ls [IMAGE [PATH]]",
		Short: "List the images in the store, or a folder inside one",
		Long: `Image ls lists the images in the store, the one used last at the end. With an IMAGE it lists the folder PATH
inside it (default /), as 'ls -l' does. Symbolic links on the way are followed inside the image and never lead out of
it.

` + imageArgument,
		Example: `  belljar image ls
  belljar image ls seabios /usr/bin
  belljar image ls root.tar.xz /etc --recursive`,
		Args:              arguments(0, 2, "an IMAGE and perhaps a PATH inside it"),
		ValidArgsFunction: e.completeImage(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return runImages(o, e)
			}
			o.ref.Image, o.path = args[0], "/"
			if len(args) > 1 {
				o.path = args[1]
			}
			return runImageLs(c.Context(), o, e)
		},
	}
	imageFlags(c, e, &o.ref)
	c.Flags().BoolVarP(&o.recursive, "recursive", "R", false, "list all that is below PATH")
	return c
}

func runImages(o imageLsOptions, e *env) error {
	if o != (imageLsOptions{}) {
		return fault.New(fault.Usage, "", "--guest, --lock and --recursive go with an IMAGE").
			WithRemedy("'belljar image ls --help' shows how")
	}
	images, err := e.api.images(e.cfg)
	if err != nil {
		return err
	}
	e.screen.result("image ls", struct {
		Images []pipeline.ImageInfo `json:"images"`
	}{notNil(images)}, func(p *printer) { p.images(images) })
	return nil
}

func runImageLs(ctx context.Context, o imageLsOptions, e *env) error {
	files, err := e.api.imageList(ctx, e.cfg, o.ref, o.path, o.recursive)
	if err != nil {
		return err
	}
	e.screen.result("image ls", struct {
		Files []pipeline.ImageFile `json:"files"`
	}{notNil(files)}, func(p *printer) { p.imageFiles(files, o.recursive) })
	return nil
}
