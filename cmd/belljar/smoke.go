package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

func newSmoke(e *env) *cobra.Command {
	o := pipeline.SmokeOptions{Accel: vm.Auto, Count: 1}
	c := &cobra.Command{
		Use:   "smoke [SPEC] ROM...",
		Short: "Boot ROM files and judge whether they work",
		Long: `Smoke boots a ROM that you have, wherever it is from, in a fresh machine without a network, and says whether it
works, from what it prints and what it measures.

What it must do, a profile says: the one that you name, or the one for the kind of ROM that it looks like (coreboot,
UEFI, U-Boot, SeaBIOS). With a SPEC before the ROM, the spec's own smoke tests judge. With --expect and no profile, only
the patterns that you give do.

The ROM, a disk and UEFI variables are copied before the machine sees them: your files stay as they are.`,
		Example: `  belljar smoke /usr/share/seabios/bios-256k.bin
  belljar smoke --profile coreboot --tpm 2.0 --disk none build/coreboot.rom
  belljar smoke --expect 'login: $' --machine pc-q35-6.2 --count 20 board.rom
  belljar smoke seabios out/bios-256k.bin`,
		Args: arguments(1, 1000, "ROMs (paths), and perhaps a SPEC (shipped name or path) before them"),
		ValidArgsFunction: func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return e.completeSpec(c, args, prefix)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.Args = args
			return runSmoke(c.Context(), o, e)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Profile, "profile", "", "shipped `name` or path of the profile that judges (default: by the look of the ROM)")
	f.StringArrayVar(&o.Expect, "expect", nil, "`pattern` (RE2) that a line must match, behind the profile's or the spec's steps;\n"+
		"may be given more than once, and then in order")
	f.StringArrayVar(&o.Forbid, "forbid", nil, "`pattern` that no line may match; may be given more than once")
	hardwareFlags(c, e, &o.Set)
	f.Var((*limit)(&o.Timeout), "timeout", "longest `time` of a boot, at the pace of KVM (default: the profile's)")
	f.IntVar(&o.Count, "count", 1, "boot each ROM `N` times, and say how much the boots differ")
	f.StringVar(&o.Reference, "reference", "", "a coreboot `ROM` that these should be: with --tpm, what they measure is held against it")
	f.StringVar(&o.JUnit, "junit", "", "write a JUnit report to this `file`")
	accelFlag(c, &o.Accel)
	backendFlags(c, e)
	e.completeFlag(c, "profile", cobra.FixedCompletions(specs.Profiles(), cobra.ShellCompDirectiveDefault))
	return c
}

// hardwareFlags are those that change the machine which a ROM boots on.
func hardwareFlags(c *cobra.Command, e *env, to *pipeline.Hardware) {
	f := c.Flags()
	f.StringVar(&to.Machine, "machine", "", "QEMU's machine `type`, with its version: pc-q35-6.2")
	f.Var((*size)(&to.Memory), "memory", "the machine's memory: `SIZE` with MiB or GiB")
	f.Var(&choice{&to.Console, []string{"serial", "debugcon"}}, "console", "what is read: `serial|debugcon`")
	f.BoolVar(&to.Headless, "headless", false, "no VGA, as the profile u-boot has it")
	tpms := []string{"2.0", "1.2", pipeline.TPMNone}
	f.Var(&choice{&to.TPM, tpms}, "tpm", "a fresh TPM of that version: `2.0|1.2`, or none")
	f.StringVar(&to.Disk, "disk", "", "image of a hard disk, of which the machine gets a copy: `FILE`, test (Belljar's own) or none")
	f.StringVar(&to.USB, "usb", "", "image `FILE` of a USB stick, which the machine cannot write to")
	f.StringVar(&to.Vars, "vars", "", "`FILE` of a UEFI's variables, of which the machine gets a copy (default: the one beside the ROM)")
	for flag, values := range map[string][]string{"console": {"serial", "debugcon"}, "tpm": tpms} {
		e.completeFlag(c, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func runSmoke(ctx context.Context, o pipeline.SmokeOptions, e *env) error {
	if o.Count < 1 {
		return usage("--count %d: want 1 or more", o.Count)
	}
	verdicts, err := e.api.smoke(ctx, e.cfg, o)
	if err != nil && len(verdicts) == 0 {
		return err
	}
	pass := err == nil
	for _, v := range verdicts {
		pass = pass && v.Pass
	}
	e.screen.result("smoke", struct {
		Pass     bool               `json:"pass"`
		Verdicts []pipeline.Verdict `json:"verdicts"`
	}{pass, notNil(verdicts)}, func(p *printer) { p.smoked(verdicts) })
	if err == nil && !pass {
		return failed{exitSmoke}
	}
	return err
}
