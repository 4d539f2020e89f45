package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belljar/belljar/atomicfile"
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
	on := &bench{test: t, dir: dir}
	script, err := t.script(on)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.New(fault.Host, "smoke test "+t.Name, "%w", err)
	}
	started := time.Now()
	v := &Verdict{Test: t.Name}
	rom, unfit, err := takeROM(romPath, filepath.Join(dir, "rom.bin"), t.Vars != "")
	if err != nil {
		return nil, err
	}
	if v.ROM = rom; unfit != "" {
		v.Reason = unfit
	} else {
		if v.Machine, err = machine(t, accel, dir); err != nil {
			return nil, err
		}
		if err := boot(ctx, b, t, script, v, on); err != nil {
			return nil, fmt.Errorf("smoke test %s: %w", t.Name, err)
		}
	}
	if v.Pass && t.DiskFile != "" {
		if err := os.Remove(filepath.Join(dir, DiskCopy)); err != nil {
			return nil, fault.New(fault.Host, "smoke test "+t.Name, "remove the disk's copy: %w", err)
		}
	}
	v.Took = time.Since(started)
	v.Steps = outcomes(t, v.Matches)
	return v, v.write(dir)
}

// Boot boots the ROM at romPath as Run would, for a person in place of a test: what the test would wait for does not matter.
// Its serial console takes input, a reset is one, and if vnc is true it has a screen, which is served. The caller closes the Guest.
func Boot(ctx context.Context, b vm.Backend, accel vm.Accel, romPath string, t Test, vnc bool, dir string) (vm.Guest, error) {
	t = t.withDefaults()
	rom, unfit, err := takeROM(romPath, filepath.Join(dir, "rom.bin"), t.Vars != "")
	switch {
	case err != nil:
		return nil, err
	case unfit != "":
		return nil, fault.New(fault.Input, "boot ROM", "%s", unfit)
	}
	m, err := machine(t, accel, dir)
	if err != nil {
		return nil, err
	}
	m.Name, m.Input, m.VNC, m.OnReset, m.DebugCon = "run/"+flat(filepath.Base(rom.Path)), true, vnc, "", t.Console == DebugCon
	m.Screen = m.Screen || vnc
	if err := b.Preflight(ctx, m); err != nil {
		return nil, err
	}
	return b.Start(ctx, m, dir)
}

// verdictFile is the verdict in the machine's folder.
const verdictFile = "verdict.json"

func (v *Verdict) write(dir string) error {
	v.File = filepath.Join(dir, verdictFile)
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = atomicfile.Write(v.File, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fault.New(fault.Host, "write verdict", "%w", err)
	}
	return nil
}

// outcomes are all steps, with what came of those that were done.
func outcomes(t Test, done []Match) []Outcome {
	var all []Outcome
	for i, s := range t.all() {
		o := Outcome{Step: s.String(), Note: s.Note}
		if i < len(done) {
			o.Pass, o.Line, o.At = true, done[i].Line, done[i].At
		}
		switch { // an event is for programs
		case o.Pass && s.Reboot:
			o.Line = "the machine reset itself"
		case o.Pass && s.PowerOff:
			o.Line = "the machine powered itself off"
		}
		all = append(all, o)
	}
	return all
}

// machine is the fresh PC that the ROM gets: one CPU, no network, and a reset that ends it unless the test waits for one.
func machine(t Test, accel vm.Accel, dir string) (vm.Machine, error) {
	m := vm.Machine{
		Name: "smoke/" + flat(t.Name), Arch: vm.X86_64, Type: t.Machine, CPU: t.CPU, CPUs: 1, Memory: t.Memory,
		Clock: clock, Accel: accel, Boot: vm.Boot{ROM: filepath.Join(dir, "rom.bin")},
		DebugCon: t.reads(DebugCon), Screen: !t.Headless, OnReset: vm.ExitOnReset, TPM: t.TPM,
		Input: t.some(func(s Step) bool { return s.Send != "" }),
	}
	if t.reboots() > 0 || t.some(func(s Step) bool { return s.QMP == "system_reset" }) {
		m.OnReset = ""
	}
	if t.Vars != "" {
		m.Boot.Vars = filepath.Join(dir, "vars.fd")
		if err := copyFile("UEFI variables", t.Vars, m.Boot.Vars); err != nil {
			return m, err
		}
	}
	return m, addDisks(&m, t, dir)
}

// DiskCopy is the copy of a disk's image in the machine's folder. It may be large: after a pass it is removed.
const DiskCopy = "disk.img"

// addDisks attaches what the ROM may boot from. A hard disk is writable, for IDE knows no other: it is a copy.
func addDisks(m *vm.Machine, t Test, dir string) error {
	disk := filepath.Join(dir, "testdisk.img")
	switch {
	case t.Disk:
		if err := writeTestDisk(disk); err != nil {
			return fault.New(fault.Host, "write test disk", "%w", err)
		}
	case t.DiskFile != "":
		disk = filepath.Join(dir, DiskCopy)
		if err := copyFile("disk", t.DiskFile, disk); err != nil {
			return err
		}
	}
	if t.Disk || t.DiskFile != "" {
		m.Disks = append(m.Disks, vm.Disk{Serial: "belljar-test", Path: disk, Bus: vm.BusIDE})
	}
	if t.USBFile != "" {
		if _, err := os.Stat(t.USBFile); err != nil {
			return fault.New(fault.Input, "read USB stick", "%w", err)
		}
		m.Disks = append(m.Disks, vm.Disk{Serial: "belljar-usb", Path: t.USBFile, Bus: vm.BusUSB, ReadOnly: true})
	}
	return nil
}

// copyFile copies what a machine may write to: the file that was handed in stays as it is. The kernel does the copying,
// and where the file system can, shares the blocks (copy_file_range(2)).
func copyFile(what, from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return fault.New(fault.Input, "read "+what, "%w", err)
	}
	defer src.Close()
	if info, err := src.Stat(); err != nil || !info.Mode().IsRegular() {
		return fault.New(fault.Input, "read "+what, "%s is not a file", from)
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.New(fault.Host, "copy "+what, "%w", err)
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return fault.New(fault.Host, "copy "+what, "%w", err)
	}
	return nil
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

// boot runs the machine until its consoles decide, and closes it whatever happens.
func boot(ctx context.Context, b vm.Backend, t Test, script console.Script, v *Verdict, on *bench) error {
	if err := b.Preflight(ctx, v.Machine); err != nil {
		return err
	}
	g, err := b.Start(ctx, v.Machine, on.dir)
	if err != nil {
		return err
	}
	defer g.Close()
	on.guest = g
	if e, ok := g.(vm.Explainer); ok {
		v.CommandLine = e.CommandLine()
	}
	sources, err := t.sources(g)
	if err != nil {
		return err
	}
	s := story{test: t}
	if err := s.watch(ctx, g, sources, script, v, on.dir); err != nil {
		return err
	}
	if m, ok := g.(vm.Measured); ok {
		v.Measured = m.Extensions()
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

// watch reads the consoles until they decide, and tells the host's faults from the ROM's: a QEMU that was stopped or
// killed, or whose disk is full, says nothing of the ROM.
func (s *story) watch(ctx context.Context, g vm.Guest, sources []console.Source, script console.Script, v *Verdict, dir string) error {
	guard, watched, stop := guarded(ctx, g, s.test)
	defer stop()
	s.saw, s.broke = console.Watch(watched, sources, script)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch held := context.Cause(watched); {
	case fault.KindOf(held) == fault.Host:
		return guard.Explain(fault.New(fault.Host, v.Machine.Name, "%w", held), dir)
	case held != nil: // it sleeps, and the console had nothing to say for as long
		s.broke = &console.Error{Cause: console.Silent, After: s.test.Silence, Bytes: s.saw.Bytes}
	}
	broke, verdict := errors.AsType[*console.Error](s.broke)
	if s.saw.Ended && (s.broke == nil || verdict && broke.Cause != console.Forbidden) {
		if s.end = g.Wait(); fault.KindOf(s.end) == fault.Host {
			return guard.Explain(fault.New(fault.Host, v.Machine.Name, "%s: %w", s.ended(), s.end), dir)
		}
	}
	if s.passed() {
		return nil
	}
	s.doing = guard.Doing(ctx)
	v.Progress, v.Screen = guard.Samples(), watch.Screen(g)
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

// sources are the logs that the test reads, its console first.
func (t Test) sources(g vm.Guest) ([]console.Source, error) {
	names := []string{t.Console}
	for _, name := range []string{Serial, DebugCon, events} {
		if name != t.Console && t.reads(name) {
			names = append(names, name)
		}
	}
	var all []console.Source
	for _, name := range names {
		r, err := logOf(g, name)
		if err != nil {
			for _, s := range all {
				s.Reader.(io.Closer).Close() //nolint:forcetypeassert // logOf made it
			}
			return nil, err
		}
		all = append(all, console.Source{Name: name, Reader: &limited{r, loudest}, Aside: name == events})
	}
	return all, nil
}

// logOf is one of the logs.
func logOf(g vm.Guest, name string) (io.ReadCloser, error) {
	if name == Serial {
		return g.Console(), nil
	}
	l, ok := g.(vm.Logger)
	if !ok {
		return nil, fault.New(fault.Usage, "read "+name, "this backend captures the serial console only").
			WithRemedy("say console: serial in the smoke test, or use the qemu backend")
	}
	r, err := l.Log(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
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
