package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

func newImageCat(e *env) *cobra.Command {
	var ref pipeline.ImageRef
	c := &cobra.Command{
		Use:   "cat IMAGE PATH",
		Short: "Print a file from inside an image",
		Long: `Image cat writes a file from inside an image to stdout. Symbolic links are followed inside the image and never
lead out of it. To a terminal it prints text alone, without what would steer it.

` + imageArgument,
		Example: `  belljar image cat seabios /etc/os-release
  belljar image cat root.tar.xz /usr/bin/env > env`,
		Args:              arguments(2, 2, "an IMAGE and a PATH inside it"),
		ValidArgsFunction: e.completeImage(1),
		RunE: func(c *cobra.Command, args []string) error {
			ref.Image = args[0]
			return runImageCat(c.Context(), ref, args[1], e)
		},
	}
	imageFlags(c, e, &ref)
	return c
}

func runImageCat(ctx context.Context, ref pipeline.ImageRef, path string, e *env) error {
	if e.screen.opts.json {
		return fault.New(fault.Usage, "", "a file's content has no --json").
			WithRemedy("'belljar image ls IMAGE PATH --json' describes the file")
	}
	w, flush := e.screen.contentWriter()
	defer flush()
	return e.api.imageCat(ctx, e.cfg, ref, path, w)
}
