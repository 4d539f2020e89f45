package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// RunROMOptions are those of 'belljar run'.
type RunROMOptions struct {
	ROM     string // path
	Profile string // whose machine it gets: shipped name or path; empty: found by looking at the ROM
	Set     Hardware
	VNC     string // address and port on which to serve the screen; empty: nowhere
	Display bool   // show the screen in a window
	Accel   vm.Accel
}

// leave is the key that ends a 'belljar run': Ctrl-], as telnet(1) has it.
const leave = 0x1d

// RunROM boots a ROM for a person: its console is the terminal until Ctrl-], the terminal's end, or the machine's. Nothing
// of what it wrote is kept.
func RunROM(ctx context.Context, cfg Config, o RunROMOptions, t ShellIO) (err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, err := open(cfg)
	if err != nil {
		return err
	}
	test, err := h.machineFor(o)
	if err != nil {
		return err
	}
	run, err := h.newRun(ctx, "run "+o.ROM)
	if err != nil {
		return err
	}
	dir, err := run.Dir("run")
	if err == nil {
		err = h.attend(ctx, o, test, dir, t)
	}
	state := vm.Passed
	switch {
	case ctx.Err() != nil:
		state = vm.Cancelled
	case err != nil:
		state = vm.Failed
	}
	return errors.Join(err, run.Finish(state, err))
}

// machineFor is the machine of a profile, as a test that waits for nothing.
func (h *house) machineFor(o RunROMOptions) (smoke.Test, error) {
	r, err := readROM(o.ROM)
	if err != nil {
		return smoke.Test{}, err
	}
	p, err := h.profile(o.Profile, r)
	if err != nil {
		if o.Profile != "" || o.Set.Machine == "" {
			return smoke.Test{}, err
		}
		p = &specs.Profile{Machine: o.Set.Machine} // a person who names the machine knows what is to boot there
	}
	test := smokeTest(p.Test(o.ROM), "", h.pace)
	if p.Flash {
		if test.Vars, err = r.variables(o.Set.Vars); err != nil {
			return smoke.Test{}, err
		}
	}
	return o.Set.apply(test)
}

// attend boots the machine and stays with it.
func (h *house) attend(ctx context.Context, o RunROMOptions, test smoke.Test, dir string, t ShellIO) error {
	accel := o.Accel
	if accel == vm.Auto {
		accel = vm.TCG
	}
	defer os.Remove(filepath.Join(dir, smoke.DiskCopy)) // the rest is small
	var viewer string
	if o.Display {
		var err error
		if viewer, err = findViewer(); err != nil {
			return err
		}
	}
	g, err := smoke.Boot(ctx, h.backend, accel, o.ROM, test, o.VNC != "" || o.Display, dir)
	if err != nil {
		return err
	}
	defer g.Close()
	if o.VNC != "" {
		l, err := h.serveScreen(ctx, "tcp", o.VNC, g)
		if err != nil {
			return err
		}
		defer l.Close()
		h.note(PhaseSmoke, fmt.Sprintf("its screen is at %s: vncviewer %s", l.Addr(), l.Addr()))
	}
	if o.Display {
		window, err := h.openWindow(ctx, g, viewer)
		if err != nil {
			return err
		}
		defer window.Close()
	}
	h.note(PhaseSmoke, fmt.Sprintf("%s runs on %s; Ctrl-] leaves", filepath.Base(o.ROM), test.Machine))
	out, err := consoleOf(g, test.Console)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(typing(ctx, g, t.In)) }()
	stop := context.AfterFunc(ctx, func() { out.Close() })
	defer stop()
	_, err = io.Copy(t.Out, out)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLeft):
		return nil
	case cause != nil:
		return cause
	case err != nil:
		return fault.New(fault.Host, "print console", "%w", err)
	}
	return g.Wait() // the console is at its end: so is the machine
}

// errLeft is how a person ends a run.
var errLeft = errors.New("left")

// typing gives the machine what a person types, until he leaves. The end of what is typed is none of the machine: a program may
// have nothing more to say and still want to hear.
func typing(ctx context.Context, g vm.Guest, in io.Reader) error {
	keys, ok := g.(vm.Typist)
	if !ok {
		return fault.New(fault.Usage, "type", "this backend's machines take no input").WithRemedy("use --backend qemu")
	}
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		for i, b := range buf[:n] {
			if b == leave {
				_ = keys.Type(ctx, buf[:i])
				return errLeft
			}
		}
		if n > 0 {
			if err := keys.Type(ctx, buf[:n]); err != nil && fault.KindOf(err) != fault.Guest {
				return err
			}
		}
		if err != nil {
			<-ctx.Done() // the machine's console says when it is gone
			return context.Cause(ctx)
		}
	}
}

// consoleOf is what a person sees: the serial port, or the debug console of firmware that speaks there.
func consoleOf(g vm.Guest, name string) (io.ReadCloser, error) {
	if l, ok := g.(vm.Logger); ok && name == specs.ConsoleDebugcon {
		return l.Log(name)
	}
	return g.Console(), nil
}
