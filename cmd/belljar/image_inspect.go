package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newImageInspect(e *env) *cobra.Command {
	var ref pipeline.ImageRef
	var verify bool
	c := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Say what an image is made of",
		Long: `Image inspect says what an image is made of: its partitions and what they hold, the operating system, how many
files of which types, set-uid and set-gid files, capabilities and other extended attributes, and the packages that its
dpkg database names.

With --verify each package must be installed and each of its files be as the package brought it, by its MD5, as
'dpkg --audit' and 'dpkg --verify' have it in a guest; what is not makes the exit code 8.

` + imageArgument,
		Example: `  belljar image inspect seabios
  belljar image inspect seabios --verify
  belljar image inspect root.img --json`,
		Args:              arguments(1, 1, "an IMAGE (a spec, a digest or a file)"),
		ValidArgsFunction: e.completeImage(1),
		RunE: func(c *cobra.Command, args []string) error {
			ref.Image = args[0]
			return runImageInspect(c.Context(), ref, verify, e)
		},
	}
	imageFlags(c, e, &ref)
	c.Flags().BoolVar(&verify, "verify", false, "hold every file against its package's MD5")
	return c
}

func runImageInspect(ctx context.Context, ref pipeline.ImageRef, verify bool, e *env) error {
	r, err := e.api.imageInspect(ctx, e.cfg, ref, verify)
	if err != nil {
		return err
	}
	e.screen.result("image inspect", r, func(p *printer) { p.imageReport(r) })
	if len(r.Deviations) > 0 {
		return failed{exitDiffers}
	}
	return nil
}
