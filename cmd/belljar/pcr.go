package main

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

func newPCR(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "pcr ROM",
		Short: "Predict the PCRs of a ROM's measured boot",
		Long: `Pcr predicts, from a ROM file alone, what its measured boot extends into a TPM: the events, in their order, each with
its digest and the part of the file that it measures, and the values of the PCRs when the payload starts.

It knows coreboot's measured boot (CONFIG_TPM_MEASURED_BOOT), from version 4.15 on. A ROM without it is refused, and so is
one with vboot, which decides at boot what it measures. For a board that is not QEMU's, a note says what else may be
measured.`,
		Example: `  belljar pcr coreboot.rom
  belljar pcr coreboot.rom --json`,
		Args:              arguments(1, 1, "a ROM (path)"),
		ValidArgsFunction: completeFile,
		RunE:              func(_ *cobra.Command, args []string) error { return runPCR(args[0], e) },
	}
}

func runPCR(path string, e *env) error {
	r, err := e.api.pcr(path)
	if err != nil {
		return err
	}
	e.screen.result("pcr", r, func(p *printer) { p.pcrs(filepath.Base(path), r) })
	return nil
}
