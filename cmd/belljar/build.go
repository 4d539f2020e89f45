package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newBuild(e *env) *cobra.Command {
	o := pipeline.BuildOptions{Accel: vm.Auto}
	var explain bool
	c := &cobra.Command{
		Use:   "build SPEC",
		Short: "Build a ROM in a sealed guest, boot it, and hand it over",
		Long: `Build makes the guest's image, runs the spec's stages inside, boots the finished ROM in a second
machine and, if that boot went well, puts ROM and record into the output folder. A build with nothing changed is
answered from the cache, and so is each stage, of this spec or of one that it needs. With --explain it says for each stage
whether it would run, and which of its inputs changed since it last did.`,
		Example: `  belljar build seabios
  belljar build seabios --guest debian-bookworm-i686 --out /tmp/roms
  belljar build ./my-board.yaml --explain
  belljar build ./my-board.yaml --no-cache=rom`,
		Args:              arguments(1, 1, "a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			if explain {
				return runExplain(c.Context(), o, e)
			}
			return runBuild(c.Context(), o, e)
		},
	}
	guestFlags(c, e, &o)
	f := c.Flags()
	f.StringVarP(&o.Out, "out", "o", "out", "`folder` for artifacts and record")
	noCacheFlag(f, &o)
	f.BoolVar(&explain, "explain", false, "say for each stage whether it is cached or must run and which input changed,\n"+
		"and run nothing")
	f.BoolVar(&o.Strict, "strict", false, "fail if a program ran that is of no locked package, no locked source and\n"+
		"no output of a needed stage, and that its stage does not say it makes")
	keepFlag(c, &o.Keep)
	return c
}

func keepFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "keep", false, "leave a guest in which something failed running until Ctrl-C or\n"+
		"'belljar stop RUN', for 'belljar shell RUN' from another terminal")
}

// guestFlags are the flags that build and shell share: which guest, from which lock, on which accelerator.
func guestFlags(c *cobra.Command, e *env, o *pipeline.BuildOptions) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.Guest, "guest", "", "build in this `guest` (default the spec's first)")
	f.StringVar(&o.Lock, "lock", "", "the lock's `file` (default the spec's own)")
	accelFlag(c, &o.Accel)
	backendFlags(c, e)
	f.BoolVar(&o.Cold, "cold", false, "boot guests from power-on, even where a saved state would start faster")
	f.BoolVar(&o.Offline, "offline", false, "never use the network, not even to fill the store")
	e.completeFlag(c, "guest", e.completeGuest)
}

func runBuild(ctx context.Context, o pipeline.BuildOptions, e *env) error {
	r, err := e.api.build(ctx, e.cfg, o)
	if err != nil {
		failure := inRun{error: err}
		if r != nil {
			// A kept guest is ended by Ctrl-C: the failure came before that, and is what is to be told.
			failure.run, failure.before = r.Run, r.Kept
		}
		return failure
	}
	e.screen.result("build", r, func(p *printer) { p.built(r) })
	return nil
}

func runExplain(ctx context.Context, o pipeline.BuildOptions, e *env) error {
	x, err := e.api.explain(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("build --explain", x, func(p *printer) { p.explained(x) })
	return nil
}

// inRun says in which run an error happened, so that its logs can be named.
type inRun struct {
	error
	run    string // its id, if it got so far
	before bool   // it happened before any signal came
}

func (e inRun) Unwrap() error { return e.error }

// RunID is the run's id.
func (e inRun) RunID() string { return e.run }
