package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newRuns(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "runs",
		Short: "List runs, the newest last",
		Long: `Runs lists what ran here, the newest last: what each live run does now and for how long, whether it keeps a
guest that can be entered, and how the others ended. A run whose process was killed is dead; what it left (sockets, disks,
temporary files) is swept by whichever command comes next, and its logs stay until 'belljar clean'.`,
		Example: `  belljar runs
  belljar runs --json`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return runRuns(e) },
	}
}

func runRuns(e *env) error {
	runs, err := e.api.runs(e.cfg)
	if err != nil {
		return err
	}
	e.screen.result("runs", struct {
		Runs []pipeline.RunInfo `json:"runs"`
	}{notNil(runs)}, func(p *printer) { p.runs(runs, time.Now()) })
	return nil
}
