package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newImageBoot(e *env) *cobra.Command {
	o := pipeline.BuildOptions{Accel: vm.Auto}
	c := &cobra.Command{
		Use:   "boot SPEC",
		Short: "Boot a guest once and say how long each part took",
		Long: `Image boot boots the guest that a spec builds in, as a build would, until its agent answers, and ends it: to see
whether guests boot on this host, and where the time goes. An image that is not there yet is made first.`,
		Example: `  belljar image boot seabios
  belljar image boot seabios --accel tcg --json`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runImageBoot(c.Context(), o, e)
		},
	}
	guestFlags(c, e, &o)
	return c
}

func runImageBoot(ctx context.Context, o pipeline.BuildOptions, e *env) error {
	r, err := e.api.imageBoot(ctx, e.cfg, o)
	if err != nil {
		failure := inRun{error: err}
		if r != nil {
			failure.run = r.Run
		}
		return failure
	}
	e.screen.result("image boot", r, func(p *printer) { p.imageBooted(r) })
	return nil
}
