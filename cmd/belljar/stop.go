package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newStop(e *env) *cobra.Command {
	o := pipeline.StopOptions{Wait: vm.DefaultStopWait}
	c := &cobra.Command{
		Use:   "stop RUN...|--all",
		Short: "End a run as Ctrl-C in its terminal would",
		Long: `Stop asks a run to end, waits until it has cleaned up, and says how it ended. A guest that was kept with
'belljar build --keep' is ended the same way. A run that is dead (its process was killed) is swept. RUN is an id of
'belljar runs', a part of one, or 'last'. Only the process that holds the run's lock is ever signalled.

It exits with 0 when every run that was named is over, however it came to that, and with 4 when one is not: because it
took too long, or because it is another user's. The stopped run itself ends with 130, or with what a kept guest failed of.`,
		Example: `  belljar stop last
  belljar stop --all --force --wait 10s`,
		Args: func(c *cobra.Command, args []string) error {
			if o.All && len(args) > 0 {
				return fault.New(fault.Usage, "", "--all stops every run: name none").WithRemedy("usage: %s", c.UseLine())
			}
			if !o.All && len(args) == 0 {
				return fault.New(fault.Usage, "", "'%s' needs a RUN (an id of 'belljar runs', or 'last') or --all", c.CommandPath()).
					WithRemedy("usage: %s", c.UseLine())
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return e.liveRuns(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.Runs = args
			return runStop(c.Context(), o, e)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVar(&o.All, "all", false, "stop every run that is live")
	f.Var((*wait)(&o.Wait), "wait", "how `long` a run may take to clean up: 10s, 2m")
	f.BoolVar(&o.Force, "force", false, "kill a run that takes longer than that")
	return c
}

// wait is a flag's value: a duration of more than nothing.
type wait time.Duration

func (w *wait) Type() string   { return "duration" }
func (w *wait) String() string { return time.Duration(*w).String() }
func (w *wait) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fault.New(fault.Usage, "", "must be a time such as 10s or 2m")
	}
	*w = wait(d)
	return nil
}

func runStop(ctx context.Context, o pipeline.StopOptions, e *env) error {
	ended, err := e.api.stop(ctx, e.cfg, o)
	if err != nil {
		for _, r := range ended {
			e.screen.note(stopText(r))
		}
		return err
	}
	e.screen.result("stop", struct {
		Runs []pipeline.StopResult `json:"runs"`
	}{notNil(ended)}, func(p *printer) { p.stopped(ended) })
	return nil
}
