package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

type logsOptions struct {
	run, part string
	follow    bool
}

func newLogs(e *env) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs RUN [PART]",
		Short: "Print what a run logged",
		Long: `Logs prints what a run logged: all of it, or one PART, such as 'run' or the console of a machine
('stage-build/console'). RUN is an id of 'belljar runs', or 'last'.`,
		Example: `  belljar logs last
  belljar logs last stage-build/console --follow`,
		Args:              arguments(1, 2, "a RUN (an id of 'belljar runs', or 'last') and perhaps a PART"),
		ValidArgsFunction: e.completeRun,
		RunE: func(c *cobra.Command, args []string) error {
			o.run = args[0]
			if len(args) > 1 {
				o.part = args[1]
			}
			return runLogs(c.Context(), o, e)
		},
	}
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on printing until the run ends")
	return c
}

func runLogs(ctx context.Context, o logsOptions, e *env) error {
	w, flush := e.screen.logWriter(pipeline.Event{Name: o.part})
	defer flush()
	return e.api.logs(ctx, e.cfg, o.run, o.part, o.follow, w)
}
