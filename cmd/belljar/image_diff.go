package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

type imageDiffOptions struct {
	pipeline.ImageDiffOptions
	explained bool
}

func newImageDiff(e *env) *cobra.Command {
	var o imageDiffOptions
	c := &cobra.Command{
		Use:   "diff IMAGE IMAGE",
		Short: "Compare two images by package and by file",
		Long: `Image diff compares two images: packages by version and state, and every path by type, mode, owner, link
target, which names are the same file (hard links), extended attributes, device numbers and content, byte by byte.
Each path is told with the package that it belongs to.

Differences that are expected stand with their reason in an allow-list; what it does not explain, and entries of it that
explain nothing, make the exit code 8:

    allow:
      - path: /var/cache/**         # * and ? within a name, ** for any number of folders
        differs: [added, content]   # added, removed, type, mode, owner, target, device, links, xattrs, content, mtime
        reason: a cache, made anew at need
      - path: /etc/passwd
        differs: [content]
        lines: '^build:'            # in lines that fit this regexp, and in no other
        reason: the user that runs stages
      - package: tzdata:all         # NAME:ARCH
        differs: [version]          # added, removed, version, state
        reason: the other image is a week older

` + imageArgument,
		Example: `  belljar image diff seabios old-root.img
  belljar image diff 6e2be550 reference.tar --allow expected.yaml`,
		Args:              arguments(2, 2, "two IMAGEs (each a spec, a digest or a file)"),
		ValidArgsFunction: e.completeImage(2),
		RunE: func(c *cobra.Command, args []string) error {
			o.B = o.A
			o.A.Image, o.B.Image = args[0], args[1]
			return runImageDiff(c.Context(), o, e)
		},
	}
	imageFlags(c, e, &o.A)
	f := c.Flags()
	f.StringVar(&o.Allow, "allow", "", "allow-list: a YAML `file` with the differences that are expected, and why")
	f.BoolVar(&o.explained, "explained", false, "list those differences as well, each with its reason")
	f.BoolVar(&o.MTime, "mtime", false, "compare dates as well")
	return c
}

func runImageDiff(ctx context.Context, o imageDiffOptions, e *env) error {
	d, err := e.api.imageDiff(ctx, e.cfg, o.ImageDiffOptions)
	if err != nil {
		return err
	}
	e.screen.result("image diff", d, func(p *printer) { p.imageDiff(d, o.Allow, o.explained) })
	if !d.Same {
		return failed{exitDiffers}
	}
	return nil
}
