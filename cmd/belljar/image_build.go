package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newImageBuild(e *env) *cobra.Command {
	o := pipeline.BuildOptions{Accel: vm.Auto}
	c := &cobra.Command{
		Use:   "build SPEC",
		Short: "Make the image of a spec's guest",
		Long: `Image build makes the image that 'belljar build' would make and boot, and stops there: packages unpacked by the
host, configured in a guest, merged into a read-only root disk. An image that is in the store already is only checked.`,
		Example: `  belljar image build seabios
  belljar image build seabios --guest debian-bookworm-i686`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runImageBuild(c.Context(), o, e)
		},
	}
	guestFlags(c, e, &o)
	keepFlag(c, &o.Keep)
	return c
}

func runImageBuild(ctx context.Context, o pipeline.BuildOptions, e *env) error {
	r, err := e.api.imageBuild(ctx, e.cfg, o)
	if err != nil {
		failure := inRun{error: err}
		if r != nil {
			failure.run, failure.before = r.Run, r.Kept
		}
		return failure
	}
	e.screen.result("image build", r, func(p *printer) { p.imageBuilt(r) })
	return nil
}
