package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

func newImageExport(e *env) *cobra.Command {
	var o pipeline.ExportOptions
	c := &cobra.Command{
		Use:   "export IMAGE --format FORMAT",
		Short: "Hand an image to other tools",
		Long: `Image export writes an image in another tool's format:

  raw       a disk that boots by itself under UEFI, to a root shell on the serial port and on the screen
  qcow2     the same disk for QEMU, compressed
  squashfs  the root as a compressed file system
  tar       the root as an archive, for 'docker import', tar, or whatever takes one

The same image gives the same bytes. The file appears when it is whole; nothing that is there is replaced unless
--force says so.

` + imageArgument,
		Example: `  belljar image export seabios --format raw
  belljar image export seabios --format tar -o - | docker import - belljar-guest
  belljar image export 3f9a --format squashfs --output root.squashfs`,
		Args:              arguments(1, 1, "an IMAGE"),
		ValidArgsFunction: e.completeImage(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Image.Image = args[0]
			return runImageExport(c.Context(), o, e)
		},
	}
	imageFlags(c, e, &o.Image)
	f := c.Flags()
	f.Var((*exportFormat)(&o.Format), "format", "`"+strings.Join(pipeline.ExportFormats, "|")+"`; must be given")
	f.StringVarP(&o.Out, "output", "o", "", "the `file` to write; '-' is stdout, for a tar (default IMAGE.FORMAT here)")
	f.StringVar(&o.Kernel, "kernel", "", "of an image that is no spec: boot it with the kernel of this `spec`")
	f.BoolVarP(&o.Force, "force", "f", false, "replace a file that is there")
	must(c.RegisterFlagCompletionFunc("format",
		cobra.FixedCompletions(pipeline.ExportFormats, cobra.ShellCompDirectiveNoFileComp)))
	e.completeFlag(c, "kernel", func(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return e.completeSpec(c, nil, prefix)
	})
	return c
}

// exportFormat is a flag's value that takes the formats and nothing else.
type exportFormat string

func (f *exportFormat) String() string { return string(*f) }
func (f *exportFormat) Type() string   { return "format" }
func (f *exportFormat) Set(s string) error {
	if slices.Contains(pipeline.ExportFormats, s) {
		*f = exportFormat(s)
		return nil
	}
	all := strings.Join(pipeline.ExportFormats, ", ")
	if near := nearest(s, pipeline.ExportFormats); near != "" {
		return fmt.Errorf("must be one of %s; did you mean %s?", all, near)
	}
	return fmt.Errorf("must be one of %s", all)
}

func runImageExport(ctx context.Context, o pipeline.ExportOptions, e *env) error {
	if o.Format == "" {
		return fault.New(fault.Usage, "", "which format?").
			WithRemedy("--format %s", strings.Join(pipeline.ExportFormats, ", --format "))
	}
	if o.Out == "-" {
		if e.screen.opts.json {
			return fault.New(fault.Usage, "", "--json and an archive cannot both go to stdout").
				WithRemedy("name a file with --output")
		}
		if _, ok := terminalOf(e.screen.std.out); ok {
			return fault.New(fault.Usage, "", "stdout is a terminal, and an archive is not for reading").
				WithRemedy("name a file with --output, or send it on: … | tar -t")
		}
		o.Stdout = e.screen.std.out
	}
	r, err := e.api.imageExport(ctx, e.cfg, o)
	if err != nil {
		return err
	}
	if o.Out == "-" {
		return nil
	}
	e.screen.result("image export", r, func(p *printer) { p.exported(r) })
	return nil
}

func (p *printer) exported(r *pipeline.ExportResult) {
	p.coloured(bold, r.Format, "  %s", r.Path)
	p.line("  sha256     %s", r.SHA256)
	if r.RootHash != "" {
		p.line("  root hash  %s", r.RootHash)
	}
	room := ""
	if r.OnDisk > 0 {
		room = fmt.Sprintf(", of which %s take room on this disk", bytesText(r.OnDisk))
	}
	p.line("  size       %d bytes (%s)%s", r.Size, bytesText(r.Size), room)
	if r.Boots {
		p.line("  kernel     %s", r.Kernel)
	}
	p.line("  took       %s", took(r.Took))
	if r.Boots {
		p.line("boot it: %s", bootCommand(r))
	}
}

// bootCommand boots an exported disk with Debian's QEMU and OVMF. The 32-bit OVMF is built for system management mode
// only, and does not start without a flash for its variables.
func bootCommand(r *pipeline.ExportResult) string {
	qemu, machine := "qemu-system-x86_64", "-machine q35"
	flash := pflash("OVMF_CODE_4M.fd") + ",readonly=on"
	if r.Arch == "i686" {
		qemu, machine = "qemu-system-i386", "-machine q35,smm=on -global driver=cfi.pflash01,property=secure,value=on"
		flash = pflash("OVMF32_CODE_4M.secboot.fd") + ",readonly=on" + pflash("OVMF32_VARS_4M.fd") + ",snapshot=on"
	}
	return fmt.Sprintf("%s %s -m 2G%s -drive file=%s,format=%s,snapshot=on -nographic",
		qemu, machine, flash, r.Path, r.Format)
}

func pflash(name string) string { return " -drive if=pflash,format=raw,file=/usr/share/OVMF/" + name }
