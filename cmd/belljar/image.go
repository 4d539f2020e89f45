package main

import (
	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newImage(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Make, look into and compare disk images",
		Long: `Image makes the disks that guests boot from, and looks into them without mounting anything and without root.

` + imageArgument,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		newImageBuild(e), newImageLayer(e), newImageLs(e), newImageInspect(e), newImageCat(e), newImageDiff(e),
		newImageExport(e), newImageBoot(e),
	)
	return c
}

// imageArgument is said wherever an IMAGE is asked for.
const imageArgument = `An IMAGE is a spec (with --guest, otherwise its first guest; its image must have been made), a
digest that 'belljar image ls' shows or the beginning of one, or a file: a disk with a GPT or an MBR, a bare EROFS, a
tar archive of any tool, each as it is or packed by gzip, xz, zstd or bzip2.`

// imageFlags are the flags of every command that takes an IMAGE.
func imageFlags(c *cobra.Command, e *env, ref *pipeline.ImageRef) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&ref.Guest, "guest", "", "of a spec: the image of this `guest` (default the spec's first)")
	f.StringVar(&ref.Lock, "lock", "", "of a spec: the lock's `file` (default the spec's own)")
	e.completeFlag(c, "guest", e.completeGuest)
}

// completeImage offers specs, the images in the store, and files.
func (e *env) completeImage(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		offers := e.api.specs()
		if !e.findDir() {
			return offers, cobra.ShellCompDirectiveDefault
		}
		images, err := e.api.images(e.cfg)
		if err != nil {
			return offers, cobra.ShellCompDirectiveDefault
		}
		for _, i := range images {
			offers = append(offers, shortDigest(i.Digest)+"\t"+i.Guest)
		}
		return offers, cobra.ShellCompDirectiveDefault
	}
}
