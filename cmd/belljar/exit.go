package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/belljar/belljar/fault"
)

// The exit codes. Scripts rely on them: they never change their meaning.
const (
	exitOK          = 0
	exitInternal    = 1
	exitUsage       = 2
	exitInput       = 3
	exitHost        = 4
	exitGuest       = 5
	exitBuild       = 6
	exitSmoke       = 7
	exitDiffers     = 8
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// exits is the one table of exit codes; the kinds of faults, the help text and docs/cli.md follow it.
var exits = []struct {
	code int
	kind fault.Kind // -1: not a fault
	name string     // as in the "kind" of a JSON error
	text string
}{
	{exitOK, -1, "ok", "all went well"},
	{exitInternal, fault.Unknown, "internal", "a failure that nobody foresaw: a defect in Belljar"},
	{exitUsage, fault.Usage, "usage", "the command line is wrong"},
	{exitInput, fault.Input, "input", "what was handed in is wrong: a spec, a lock, a file's digest"},
	{exitHost, fault.Host, "host", "this machine lacks something or failed: QEMU, disk space, the network"},
	{exitGuest, fault.Guest, "guest", "the virtual machine failed: a panic, a hang, a lost agent"},
	{exitBuild, fault.Build, "build", "a step of the build said no"},
	{exitSmoke, fault.Smoke, "smoke", "a ROM did not boot as it must; of a build nothing was handed over"},
	{exitDiffers, -1, "differs", "what was compared is not the same, or an image not what its packages brought"},
	{exitInterrupted, -1, "interrupted", "stopped by Ctrl-C or SIGTERM"},
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// failed is an error that the command's own output has told already: only its exit code is left to give.
type failed struct{ code int }

func (f failed) Error() string { return fmt.Sprintf("exit code %d", f.code) }

// exitCode is the code for err. After a signal whatever failed did so because of it, unless it is known to be older.
func exitCode(ctx context.Context, err error) int {
	if told, ok := errors.AsType[failed](err); ok {
		return told.code
	}
	run, _ := errors.AsType[inRun](err)
	if errors.Is(context.Cause(ctx), errInterrupted) && !run.before {
		return exitInterrupted
	}
	kind := fault.KindOf(err)
	for _, e := range exits {
		if e.kind == kind {
			return e.code
		}
	}
	return exitInternal
}

// exitName is the short name of a code, as JSON errors carry it.
func exitName(code int) string {
	for _, e := range exits {
		if e.code == code {
			return e.name
		}
	}
	return exits[exitInternal].name
}

// exitTable is the table for people.
func exitTable() string {
	var b strings.Builder
	for _, e := range exits {
		fmt.Fprintf(&b, "  %3d  %-12s %s\n", e.code, e.name, e.text)
	}
	return b.String()
}
