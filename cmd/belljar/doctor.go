package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newDoctor(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this host can build, and what to mend if not",
		Long: `Doctor looks at what a build needs of this host: QEMU, an accelerator (KVM is proven by a boot beside
one under TCG, not assumed; what it lacks and what would mend it is said for the host at hand), memory,
disk space and a mirror. Each 'no' comes with its remedy; any 'no' makes the exit code 4.`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), e) },
	}
	backendFlags(c, e)
	return c
}

func runDoctor(ctx context.Context, e *env) error {
	// Proving KVM takes a while.
	e.screen.report(pipeline.Event{Kind: pipeline.PhaseStart, Phase: "doctor", Text: "look at this host"})
	checks, err := e.api.doctor(ctx, e.cfg)
	if err != nil {
		return err
	}
	ok := true
	for _, c := range checks {
		ok = ok && c.State != "no"
	}
	e.screen.result("doctor", struct {
		OK     bool             `json:"ok"`
		Checks []pipeline.Check `json:"checks"`
	}{ok, notNil(checks)}, func(p *printer) { p.checks(checks) })
	if !ok {
		return failed{exitHost}
	}
	return nil
}
