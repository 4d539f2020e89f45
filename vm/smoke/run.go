package smoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
	"github.com/belljar/belljar/vm/watch"
)

// clock is what a machine under test shows at power-on: fixed, as everything else in it.
var clock = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

// Run boots the ROM at romPath in a fresh machine, with everything that the run leaves in dir, and gives its verdict.
// The error is for what is not the ROM's doing: the host's faults, a test that makes no sense, a cancelled context.
func Run(ctx context.Context, b vm.Backend, accel vm.Accel, romPath string, t Test, dir string) (*Verdict, error) {
	t = t.withDefaults()
	script, err := t.script()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.New(fault.Host, "smoke test "+t.Name, "%w", err)
	}
	started := time.Now()
	v := &Verdict{Test: t.Name}
	rom, unfit, err := takeROM(romPath, filepath.Join(dir, "rom.bin"))
	if err != nil {
		return nil, err
	}
	if v.ROM = rom; unfit != "" {
		v.Reason, v.Took = unfit, time.Since(started)
		return v, nil
	}
	if v.Machine, err = machine(t, accel, dir); err != nil {
		return nil, err
	}
	if err := boot(ctx, b, t, script, v, dir); err != nil {
		return nil, fmt.Errorf("smoke test %s: %w", t.Name, err)
	}
	v.Took = time.Since(started)
	return v, nil
}

// machine is the fresh PC that the ROM gets: one CPU, no network, and a reset that ends it.
func machine(t Test, accel vm.Accel, dir string) (vm.Machine, error) {
	m := vm.Machine{
		Name: "smoke/" + flat(t.Name), Arch: vm.X86_64, Type: t.Machine, CPU: t.CPU, CPUs: 1, Memory: t.Memory,
		Clock: clock, Accel: accel, Boot: vm.Boot{ROM: filepath.Join(dir, "rom.bin")},
		DebugCon: t.Console == DebugCon, Screen: true, OnReset: vm.ExitOnReset,
	}
	if t.Disk {
		disk := filepath.Join(dir, "testdisk.img")
		if err := writeTestDisk(disk); err != nil {
			return m, fault.New(fault.Host, "write test disk", "%w", err)
		}
		m.Disks = []vm.Disk{{Serial: "belljar-test", Path: disk, Bus: vm.BusIDE}}
	}
	return m, nil
}

// flat makes a test's name fit for a machine's, in which QEMU's option syntax allows no comma and no equals sign.
func flat(name string) string {
	return strings.Map(func(r rune) rune {
		if r == ',' || r == '=' || r < ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, name)
}

// boot runs the machine until its console decides, and closes it whatever happens.
func boot(ctx context.Context, b vm.Backend, t Test, script console.Script, v *Verdict, dir string) error {
	if err := b.Preflight(ctx, v.Machine); err != nil {
		return err
	}
	g, err := b.Start(ctx, v.Machine, dir)
	if err != nil {
		return err
	}
	defer g.Close()
	if e, ok := g.(vm.Explainer); ok {
		v.CommandLine = e.CommandLine()
	}
	log, err := logOf(g, t.Console)
	if err != nil {
		return err
	}
	s := story{test: t}
	if err := s.watch(ctx, g, &limited{log, loudest}, script, v, dir); err != nil {
		return err
	}
	if err := g.Close(); err != nil {
		return fmt.Errorf("close the machine: %w", err)
	}
	v.Matches, v.ConsoleTail, v.Stderr = s.saw.Matches, strings.Join(s.saw.Tail, "\n"), stderr(g)
	if v.Pass, v.Reason, err = s.tell(); err != nil {
		return err
	}
	if !v.Pass && v.ROM.Hint != "" {
		v.Reason += "; note that " + v.ROM.Hint
	}
	return nil
}

// watch reads the console until it decides, and tells the host's faults from the ROM's: a QEMU that was stopped or killed,
// or whose disk is full, says nothing of the ROM.
func (s *story) watch(ctx context.Context, g vm.Guest, log io.ReadCloser, script console.Script, v *Verdict, dir string) error {
	guard, watched, stop := guarded(ctx, g, s.test)
	defer stop()
	s.saw, s.broke = console.Watch(watched, log, script)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch held := context.Cause(watched); {
	case fault.KindOf(held) == fault.Host:
		return guard.Explain(fault.New(fault.Host, v.Machine.Name, "%w", held), dir)
	case held != nil: // it sleeps, and the console had nothing to say for as long
		s.broke = &console.Error{Cause: console.Silent, After: s.test.Silence, Bytes: s.saw.Bytes}
	}
	if s.broke == nil {
		return nil
	}
	s.doing = guard.Doing(ctx)
	v.Progress, v.Screen = guard.Samples(), watch.Screen(g)
	if e, ok := errors.AsType[*console.Error](s.broke); ok && e.Cause == console.Ended {
		if s.end = g.Wait(); fault.KindOf(s.end) == fault.Host {
			return guard.Explain(fault.New(fault.Host, v.Machine.Name, "%s: %w", s.ended(), s.end), dir)
		}
	}
	return nil
}

// guarded watches a machine's progress beside its console, and ends the returned context for a fault of the host's, and for
// a machine that sleeps for as long as the test lets a console be silent: a slow host holds up only what works.
func guarded(ctx context.Context, g vm.Guest, t Test) (guard *watch.Guard, watched context.Context, stop func()) {
	limits := watch.Defaults(t.Pace)
	limits.Every = min(time.Second, max(t.Silence/4, 50*time.Millisecond)) // a boot is short
	limits.Asleep = t.Silence
	limits.Busy = t.Pace.Of(t.Timeout) // of one that runs, the console's silence decides
	limits.First = limits.Busy
	guard = watch.NewGuard(g, limits)
	watched, cancel := context.WithCancelCause(ctx)
	go func() {
		if err := guard.Watch(watched, func(string) {}); err != nil {
			cancel(err)
		}
	}()
	return guard, watched, func() { cancel(nil) }
}

// logOf is the log that the test reads.
func logOf(g vm.Guest, name string) (io.ReadCloser, error) {
	if name == Serial {
		return g.Console(), nil
	}
	l, ok := g.(vm.Logger)
	if !ok {
		return nil, fault.New(fault.Usage, "read debug console", "this backend captures the serial console only").
			WithRemedy("say console: serial in the smoke test, or use the qemu backend")
	}
	r, err := l.Log(name)
	if err != nil {
		return nil, fmt.Errorf("read debug console: %w", err)
	}
	return r, nil
}

// stderr is what QEMU said, when the backend keeps it. The machine is gone: the log has an end.
func stderr(g vm.Guest) string {
	l, ok := g.(vm.Logger)
	if !ok {
		return ""
	}
	r, err := l.Log("stderr")
	if err != nil {
		return ""
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, 64<<10)) // evidence: what there is will do
	return string(text)
}
