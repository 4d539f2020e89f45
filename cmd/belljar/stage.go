package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

func newStage(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "stage",
		Short: "List what stages made, and hand it on",
		Long: `Stage lists what is known of stages that were built, and hands it on: a toolchain that took a night is built once.

A stage is kept under its identity, the SHA-256 of everything that may influence it.`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStageLs(e), newStageExport(e), newStageImport(e))
	return c
}

func newStageLs(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ls [SPEC]",
		Short: "List the stages in the store",
		Long:  "Stage ls lists the stages in the store, the one used last at the end: all, or those of a spec.",
		Example: `  belljar stage ls
  belljar stage ls seabios --json`,
		Args:              arguments(0, 1, "perhaps a SPEC (shipped name or path)"),
		ValidArgsFunction: e.completeSpec,
		RunE: func(_ *cobra.Command, args []string) error {
			spec := ""
			if len(args) > 0 {
				spec = args[0]
			}
			return runStageLs(spec, e)
		},
	}
}

func runStageLs(spec string, e *env) error {
	stages, err := e.api.stages(e.cfg, spec)
	if err != nil {
		return err
	}
	e.screen.result("stage ls", struct {
		Stages []pipeline.StageInfo `json:"stages"`
	}{notNil(stages)}, func(p *printer) { p.stages(stages) })
	return nil
}

func newStageExport(e *env) *cobra.Command {
	o := pipeline.StageExportOptions{Format: pipeline.StageTar}
	c := &cobra.Command{
		Use:   "export SPEC#STAGE",
		Short: "Write what a stage made to a file",
		Long: `Stage export writes the outputs of a stage to a file, with its identity:

  tar  a plain archive of the outputs; 'belljar stage import' takes it back elsewhere, and the stage counts as built
  oci  an OCI image layout with the outputs as its one layer, for podman, skopeo and docker

The same stage gives the same bytes. The stage must have been built.`,
		Example: `  belljar stage export seabios#build
  belljar stage export toolchains/i686-linux-musl#toolchain --format oci -o toolchain.oci.tar`,
		Args: arguments(1, 1, "a SPEC#STAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			o.Stage = args[0]
			return runStageExport(c.Context(), o, e)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(&choice{&o.Format, pipeline.StageFormats}, "format", "`tar|oci`")
	f.StringVarP(&o.Out, "output", "o", "", "the `file` to write (default STAGE.tar or STAGE.oci.tar here)")
	f.BoolVarP(&o.Force, "force", "f", false, "replace a file that is there")
	f.StringVar(&o.Guest, "guest", "", "as it was built in this `guest` (default the spec's first)")
	f.StringVar(&o.Lock, "lock", "", "the lock's `file` (default the spec's own)")
	e.completeFlag(c, "guest", e.completeGuest)
	must(c.RegisterFlagCompletionFunc("format",
		cobra.FixedCompletions(pipeline.StageFormats, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func runStageExport(ctx context.Context, o pipeline.StageExportOptions, e *env) error {
	r, err := e.api.stageExport(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	e.screen.result("stage export", r, func(p *printer) { p.stageExported(r) })
	return nil
}

func newStageImport(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Take an exported stage back: it counts as built",
		Long: `Stage import takes a stage that 'belljar stage export' wrote (as a tar) into the store. Its outputs are verified
against its manifest. That they came of what the identity stands for is the word of whoever exported it: builds that use
the stage say so, and so do their records. 'belljar build SPEC --no-cache=STAGE' proves it.`,
		Example: `  belljar stage import toolchain.tar`,
		Args:    arguments(1, 1, "a FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return runStageImport(c.Context(), args[0], e)
		},
	}
}

func runStageImport(ctx context.Context, file string, e *env) error {
	r, err := e.api.stageImport(ctx, e.cfg, file)
	if err != nil {
		return err
	}
	e.screen.result("stage import", r, func(p *printer) { p.stageImported(r) })
	return nil
}
