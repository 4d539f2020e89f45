package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm"
)

func newShell(e *env) *cobra.Command {
	o := pipeline.BuildOptions{Accel: vm.Auto}
	c := &cobra.Command{
		Use:   "shell SPEC|RUN",
		Short: "Open a shell inside a sealed guest",
		Long: `Shell boots the guest that a spec builds in, with the sources in place, and opens a shell there, for
looking around. Given the id of a run that was kept with 'belljar build --keep', it enters that guest instead: as the user
and in the folder of the stage that failed. The guest has no network. It ends with the shell's own exit code.`,
		Example: `  belljar shell seabios
  belljar shell last`,
		Args: arguments(1, 1, "a SPEC (shipped name or path) or the id of a kept RUN"),
		ValidArgsFunction: func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			names, directive := e.completeSpec(c, args, prefix)
			if len(args) == 0 {
				names = append(slices.Clone(names), e.runIDs()...)
			}
			return names, directive
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.Spec = args[0]
			return runShell(c.Context(), o, e)
		},
	}
	guestFlags(c, e, &o)
	return c
}

func runShell(ctx context.Context, o pipeline.BuildOptions, e *env) error {
	if e.screen.opts.json {
		return fault.New(fault.Usage, "", "a shell has no --json").WithRemedy("leave --json out")
	}
	into, err := isRun(o.Spec, e)
	if err != nil {
		return err
	}
	tty := e.screen.takeTerminal(e.in, e.getenv("TERM"))
	defer tty.restore()
	var code int
	if into {
		code, err = e.api.shellInto(ctx, e.cfg, o.Spec, tty.io())
	} else {
		code, err = e.api.shell(ctx, e.cfg, o, tty.io())
	}
	if err == nil && code != 0 {
		return failed{code} // the shell has said what there is to say
	}
	return err
}

// isRun reports whether name is the id of a run; a shipped spec of that name comes first.
func isRun(name string, e *env) (bool, error) {
	if slices.Contains(e.api.specs(), name) {
		return false, nil
	}
	if name == "last" {
		return true, nil
	}
	runs, err := e.api.runs(e.cfg)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(runs, func(r pipeline.RunInfo) bool { return r.ID == name }), nil
}
