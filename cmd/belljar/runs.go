package main

import (
	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newRuns(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "runs",
		Short: "List runs, the newest last",
		Args:  arguments(0, 0, ""),
		RunE:  func(*cobra.Command, []string) error { return runRuns(e) },
	}
}

func runRuns(e *env) error {
	runs, err := e.api.runs(e.cfg)
	if err != nil {
		return err
	}
	e.screen.result("runs", struct {
		Runs []pipeline.RunInfo `json:"runs"`
	}{notNil(runs)}, func(p *printer) { p.runs(runs) })
	return nil
}
