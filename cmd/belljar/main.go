// Command belljar builds firmware inside sealed virtual machines and tells, with evidence, what came out.
//
// This package knows the command line: flags, signals, exit codes, and what people and programs read from it.
// It refuses to know how anything is done: each command is one call of package pipeline. The functions it calls
// stand in api.go; everything printed goes through the screen of tui.go.
package main

import (
	"context"
	"io"
	"os"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/vm/supervise"
)

func main() {
	supervise.Main() // a child that guards QEMU is this program as well; it does not return from here
	std := streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(run(context.Background(), os.Args[1:], std, defaultAPI()))
}

// streams are what the program was started with, so that tests can start it with something else.
type streams struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
}

// env is what a command works with: the functions behind it, where things are, and the screen.
type env struct {
	api    api
	cfg    pipeline.Config
	screen *screen
	in     io.Reader
	getenv func(string) string
	parsed bool // the command line was understood
}

// run is the program without its process: arguments in, exit code out.
func run(ctx context.Context, args []string, std streams, a api) int {
	e := &env{api: a, in: std.in, getenv: std.getenv, screen: newScreen(std)}
	defer e.screen.close()
	ctx, stop := withSignals(ctx, e.screen)
	defer stop()

	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	if wantsJSON(args) {
		e.screen.configure(screenOptions{json: true}) // a usage error comes before the flags are parsed
	}
	err := root.ExecuteContext(ctx)
	if err == nil && e.screen.lost != nil {
		err = fault.New(fault.Host, "print result", "%w", e.screen.lost)
	}
	if err == nil {
		return exitOK
	}
	if !e.parsed && fault.KindOf(err) == fault.Unknown {
		err = fault.New(fault.Usage, "", "%w", err).WithRemedy("'belljar help' lists the commands")
	}
	code := exitCode(ctx, err)
	e.screen.failure(err, code)
	return code
}
