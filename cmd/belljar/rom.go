package main

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

func newROM(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "rom ROM",
		Short: "Say what a ROM file is",
		Long: `Rom reads a ROM file, whoever built it, and says whose firmware it is, of which version, with which payload, what
is in its flash map, its CBFS or its firmware volumes, and which profile and machine may boot it.

It boots nothing. What keeps the ROM from booting, as far as the file tells, is listed as problems: a length that QEMU
does not load, no reset vector, files of CBFS that are missing, damaged or do not decompress.`,
		Example: `  belljar rom coreboot.rom
  belljar rom /usr/share/OVMF/OVMF_CODE_4M.fd --json`,
		Args:              arguments(1, 1, "a ROM (path)"),
		ValidArgsFunction: completeFile,
		RunE:              func(_ *cobra.Command, args []string) error { return runROM(args[0], e) },
	}
}

func runROM(path string, e *env) error {
	r, err := e.api.rom(path)
	if err != nil {
		return err
	}
	e.screen.result("rom", r, func(p *printer) { p.rom(filepath.Base(path), r) })
	return nil
}

// completeFile leaves the one argument to the shell.
func completeFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}
