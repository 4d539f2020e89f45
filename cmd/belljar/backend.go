package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belljar/belljar/pipeline"
)

// backendName is a flag's value that takes the name of a backend and nothing else.
type backendName string

func (b *backendName) String() string { return string(*b) }
func (b *backendName) Type() string   { return "backend" }
func (b *backendName) Set(s string) error {
	if !slices.Contains(pipeline.Backends(), s) {
		return fmt.Errorf("must be %s", strings.Join(pipeline.Backends(), " or "))
	}
	*b = backendName(s)
	return nil
}

// backendFlags are those of the commands that start machines: what runs them, and where. They go straight into the
// configuration.
func backendFlags(c *cobra.Command, e *env) {
	f := c.Flags()
	f.SortFlags = false
	f.Var((*backendName)(&e.cfg.Backend), "backend", "`qemu|libvirt`; what runs the machines\n"+
		"(default $BELLJAR_BACKEND, else the config file's, else qemu)")
	f.StringVar(&e.cfg.Connect, "connect", "", "the `URI` of libvirt, such as qemu+ssh://user@host/system\n"+
		"(default $BELLJAR_CONNECT, else $LIBVIRT_DEFAULT_URI, else the config file's, else qemu:///system)")
	f.StringVar(&e.cfg.Pool, "pool", "", "libvirt's storage `pool` for the machines' files\n"+
		"(default $BELLJAR_POOL, else the config file's, else default)")
	e.completeFlag(c, "backend", cobra.FixedCompletions(pipeline.Backends(), cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"connect", "pool"} {
		e.completeFlag(c, name, cobra.NoFileCompletions)
	}
}
