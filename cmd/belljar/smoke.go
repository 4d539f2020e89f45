package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newSmoke(e *env) *cobra.Command {
	o := pipeline.SmokeOptions{Accel: vm.Auto}
	c := &cobra.Command{
		Use:   "smoke SPEC ROM",
		Short: "Boot a ROM file and judge it by a spec's smoke tests",
		Long: `Smoke boots a ROM that you have, in place of the one that the spec builds, and gives the verdict of
each of the spec's smoke tests.`,
		Example: `  belljar smoke seabios out/roms/seabios/debian-bookworm-x86_64/bios-256k.bin`,
		Args:    arguments(2, 2, "a SPEC (shipped name or path) and a ROM (path)"),
		ValidArgsFunction: func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return e.completeSpec(c, args, prefix)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec, o.ROM = args[0], args[1]
			return runSmoke(c.Context(), o, e)
		},
	}
	accelFlag(c, &o.Accel)
	backendFlags(c, e)
	return c
}

func runSmoke(ctx context.Context, o pipeline.SmokeOptions, e *env) error {
	verdicts, err := e.api.smoke(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	pass := true
	for _, v := range verdicts {
		pass = pass && v.Pass
	}
	e.screen.result("smoke", struct {
		Pass     bool               `json:"pass"`
		Verdicts []pipeline.Verdict `json:"verdicts"`
	}{pass, notNil(verdicts)}, func(p *printer) { p.verdicts(verdicts) })
	if !pass {
		return failed{exitSmoke}
	}
	return nil
}
