package main

import (
	"context"
	"net"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

func newRun(e *env) *cobra.Command {
	o := pipeline.RunROMOptions{Accel: vm.Auto}
	c := &cobra.Command{
		Use:   "run ROM",
		Short: "Boot a ROM file for you to use",
		Long: `Run boots a ROM on the machine on which 'belljar smoke' would test it, and makes your terminal its serial console.
Ctrl-] leaves and ends it. With --display its screen is in a window as well, with keyboard and mouse; with --vnc it is there for a
VNC viewer. The window is a viewer's too: QEMU is kept from everything on this host that the machine does not need.

The machine has no network. The ROM, a disk and UEFI variables are copies, thrown away at the end.`,
		Example: `  belljar run /usr/lib/u-boot/qemu-x86/u-boot.rom
  belljar run /usr/share/OVMF/OVMF_CODE_4M.fd --display --disk disk.img`,
		Args: arguments(1, 1, "a ROM (path)"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.ROM = args[0]
			return runRun(c.Context(), o, e)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Profile, "profile", "", "shipped `name` or path of the profile whose machine it gets (default: by the look of the ROM)")
	hardwareFlags(c, e, &o.Set)
	f.StringVar(&o.VNC, "vnc", "", "serve the screen on this `ADDRESS:PORT` of this host, without a password: 127.0.0.1:5901")
	f.BoolVar(&o.Display, "display", false, "show the screen in a window: that of xtigervncviewer or gvncviewer")
	accelFlag(c, &o.Accel)
	backendFlags(c, e)
	e.completeFlag(c, "profile", cobra.FixedCompletions(specs.Profiles(), cobra.ShellCompDirectiveDefault))
	return c
}

func runRun(ctx context.Context, o pipeline.RunROMOptions, e *env) error {
	if e.screen.opts.json {
		return fault.New(fault.Usage, "", "a console has no --json").WithRemedy("leave --json out, or let 'belljar smoke' judge the ROM")
	}
	if o.VNC != "" {
		if _, _, err := net.SplitHostPort(o.VNC); err != nil {
			return usage("--vnc %s: want an address and a port, like 127.0.0.1:5901", o.VNC)
		}
	}
	tty := e.screen.takeTerminal(e.in, e.getenv("TERM"))
	defer tty.restore()
	return e.api.runROM(ctx, e.cfg, o, tty.io())
}
