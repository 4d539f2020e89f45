package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newFetch(e *env) *cobra.Command {
	var o pipeline.FetchOptions
	c := &cobra.Command{
		Use:   "fetch SPEC",
		Short: "Fill the store from a lock",
		Long: `Fetch brings every file that the lock names into the store and checks its digest on the way in.
Interrupted, it goes on where it stopped. Afterwards no step needs a network.`,
		Example:           `  belljar fetch seabios`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runFetch(c.Context(), o, e)
		},
	}
	c.Flags().StringVar(&o.Guest, "guest", "", "fetch for this `guest` only (default all guests of the lock)")
	c.Flags().StringVar(&o.Lock, "lock", "", "the lock's `file` (default the spec's own)")
	e.completeFlag(c, "guest", e.completeGuest)
	return c
}

func runFetch(ctx context.Context, o pipeline.FetchOptions, e *env) error {
	r, err := e.api.fetch(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("fetch", r, func(p *printer) { p.fetched(r) })
	return nil
}
