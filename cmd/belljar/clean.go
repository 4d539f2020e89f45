package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newClean(e *env) *cobra.Command {
	o := pipeline.CleanOptions{OlderThan: 7 * 24 * time.Hour}
	c := &cobra.Command{
		Use:   "clean",
		Short: "Remove what old runs left behind",
		Long: `Clean removes the folders of old runs, and with --store all that is in the store: what is needed again is
fetched and built again. It never touches a run that is going on.`,
		Example: `  belljar clean --dry-run
  belljar clean --all --store`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return runClean(c.Context(), o, e) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVar(&o.All, "all", false, "remove every run that has ended, however recent")
	f.BoolVar(&o.Store, "store", false, "empty the store as well: packages, images, results")
	f.Var((*age)(&o.OlderThan), "older-than", "remove runs older than this `age`: 12h, 7d")
	f.BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be removed")
	return c
}

func runClean(ctx context.Context, o pipeline.CleanOptions, e *env) error {
	o.All = o.All || o.OlderThan == 0 // any run is older than nothing
	r, err := e.api.clean(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("clean", r, func(p *printer) { p.cleaned(r, o.DryRun) })
	return nil
}
