package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newImageLayer(e *env) *cobra.Command {
	var o pipeline.LayerOptions
	c := &cobra.Command{
		Use:   "layer SPEC",
		Short: "Write the first layer of a guest's image: unpacked, not configured",
		Long: `Image layer does the host's part of 'belljar image build' alone: every package of the guest unpacked into a disk with
an EROFS, as 'dpkg --unpack' would do it, and none configured. No guest is booted and no script of a package is run.
The packages must be in the store (belljar fetch). Without --out the disk is dropped: the command then shows how long it
took.`,
		Example: `  belljar image layer seabios
  belljar image layer seabios --guest debian-bookworm-i686 --out layer.img`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runImageLayer(c.Context(), o, e)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.Guest, "guest", "", "the layer of this `guest` (default the spec's first)")
	f.StringVar(&o.Lock, "lock", "", "the lock's `file` (default the spec's own)")
	f.StringVar(&o.Out, "out", "", "write the disk to this `file`")
	e.completeFlag(c, "guest", e.completeGuest)
	return c
}

func runImageLayer(ctx context.Context, o pipeline.LayerOptions, e *env) error {
	r, err := e.api.imageLayer(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("image layer", r, func(p *printer) { p.imageLayered(r) })
	return nil
}
