package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newLock(e *env) *cobra.Command {
	var o pipeline.LockOptions
	c := &cobra.Command{
		Use:   "lock SPEC",
		Short: "Pin every byte that a build may see",
		Long: `Lock resolves a spec's packages and sources against the Debian archive, checks the archive's signatures,
and writes a lock that names each file with its digest. It is the only command that resolves anything.

Run again, it asks the archive only where the spec wants other packages or sources than were locked. With --update it
resolves anew in any case, and says what changed, package by package: security updates are marked.`,
		Example: `  belljar lock seabios
  belljar lock ./my-board.yaml
  belljar lock --update --dry-run ./my-board.yaml`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runLock(c.Context(), o, e)
		},
	}
	c.Flags().StringVar(&o.Path, "lock", "", "write the lock to this `file` (default SPEC.lock.json beside the spec)")
	c.Flags().BoolVar(&o.Update, "update", false, "resolve against the newest indexes, even where the lock would do")
	c.Flags().BoolVarP(&o.DryRun, "dry-run", "n", false, "say what would change, write no lock")
	return c
}

func runLock(ctx context.Context, o pipeline.LockOptions, e *env) error {
	r, err := e.api.lock(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("lock", r, func(p *printer) { p.locked(r) })
	return nil
}
