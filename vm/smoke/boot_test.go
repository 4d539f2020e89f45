package smoke_test

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/qemu"
	"github.com/belljar/belljar/vm/smoke"
	"github.com/belljar/belljar/vm/supervise"
)

func TestMain(m *testing.M) {
	supervise.Main()
	os.Exit(m.Run())
}

// seabios is the ROM that QEMU itself boots with: a dependency of every QEMU for PCs.
func seabios(t *testing.T) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines")
	}
	for _, path := range []string{"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"} {
		if rom, err := os.ReadFile(path); err == nil {
			return rom
		}
	}
	t.Fatal("QEMU's own SeaBIOS (bios-256k.bin) is neither in /usr/share/seabios nor in /usr/share/qemu")
	return nil
}

// good is a test that QEMU's SeaBIOS passes. It has no serial debug output: its lines come on the debug console.
func good(name string) smoke.Test {
	return smoke.Test{
		Name: name, Machine: "pc-q35-6.2", Console: smoke.DebugCon, Disk: true,
		Expect:  []string{`SeaBIOS \(version [0-9.]+`, `Booting from Hard Disk`, "^" + smoke.TestDiskLine + "$"},
		Forbid:  []string{`WARNING - internal error detected`, `No bootable device`, `Boot failed: `},
		Silence: 3 * time.Second, Timeout: 30 * time.Second,
	}
}

// spy is the real backend that also says which process it started.
type spy struct {
	qemu.Backend
	started func(pid int)
	pid     int
}

func (s *spy) Start(ctx context.Context, m vm.Machine, dir string) (vm.Guest, error) {
	g, err := s.Backend.Start(ctx, m, dir)
	if err == nil {
		s.pid = g.(interface{ PID() int }).PID()
		if s.started != nil {
			s.started(s.pid)
		}
	}
	return g, err
}

// gone checks that no machine outlived its test.
func (s *spy) gone(t *testing.T) {
	t.Helper()
	if s.pid != 0 && !errors.Is(syscall.Kill(s.pid, 0), syscall.ESRCH) {
		t.Errorf("QEMU (process %d) was left running", s.pid)
	}
}

func run(t *testing.T, rom []byte, test smoke.Test) *smoke.Verdict {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.rom")
	if err := os.WriteFile(path, rom, 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b := &spy{}
	defer b.gone(t)
	v, err := smoke.Run(context.Background(), b, vm.TCG, path, test, filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatalf("smoke.Run: %v", err)
	}
	t.Logf("%.1f s: %s", time.Since(began).Seconds(), v.Reason)
	if v.ROM.Size != int64(len(rom)) {
		t.Errorf("ROM size %d, want %d", v.ROM.Size, len(rom))
	}
	return v
}

func TestGoodROMPasses(t *testing.T) {
	for _, machine := range []string{"pc-i440fx-6.2", "pc-q35-6.2"} {
		t.Run(machine, func(t *testing.T) {
			test := good(machine)
			test.Machine = machine
			v := run(t, seabios(t), test)
			if !v.Pass || v.Err() != nil {
				t.Fatalf("pass %v, %v\n%s", v.Pass, v.Err(), v.ConsoleTail)
			}
			if len(v.Matches) != 3 || v.Matches[2].Line != smoke.TestDiskLine || v.Matches[2].At < v.Matches[0].At {
				t.Errorf("matches: %+v", v.Matches)
			}
			if !strings.Contains(v.CommandLine, machine) || !strings.Contains(v.ConsoleTail, smoke.TestDiskLine) {
				t.Errorf("evidence is missing: command line %q, console %q", v.CommandLine, v.ConsoleTail)
			}
		})
	}
}

// The disk alone, over COM1: what a ROM without any output of its own can be tested by.
func TestTestDiskOnSerial(t *testing.T) {
	test := good("serial")
	test.Console, test.Expect = smoke.Serial, []string{smoke.TestDiskLine}
	if v := run(t, seabios(t), test); !v.Pass {
		t.Fatal(v.Reason)
	}
}

func TestDamagedROMs(t *testing.T) {
	damage := func(f func(rom []byte) []byte) func(t *testing.T) []byte {
		return func(t *testing.T) []byte { return f(bytes.Clone(seabios(t))) }
	}
	made := func(rom []byte) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			if testing.Short() {
				t.Skip("boots machines")
			}
			return rom
		}
	}
	noDisk := func(s *smoke.Test) { s.Disk = false }
	for _, c := range []struct {
		name   string
		rom    func(*testing.T) []byte
		change func(*smoke.Test)
		reason []string // parts of the sentence
	}{
		{"empty", made(nil), nil, []string{"test.rom is empty"}},
		{"erased", made(bytes.Repeat([]byte{0xff}, 256<<10)), nil, []string{"is all 0xff"}},
		{"zeros", made(make([]byte, 256<<10)), nil, []string{"is all zeros"}},
		{"half a block short", damage(func(r []byte) []byte { return r[:len(r)-32<<10] }), nil,
			[]string{"has 229376 bytes", "no multiple of 64 KiB"}},
		{"too large", made(append(make([]byte, 16<<20), bytes.Repeat([]byte{1}, 64<<10)...)), nil, []string{"has 16842752 bytes", "room"}},
		{"truncated to its first half", damage(func(r []byte) []byte { return r[:len(r)/2] }), nil,
			[]string{"nothing at all came on the debugcon console in 3 s", "does not begin with a jump"}},
		{"first byte of the reset vector flipped", damage(func(r []byte) []byte { r[len(r)-16] ^= 0xff; return r }), nil,
			[]string{"does not begin with a jump"}},
		{"jump's target flipped", damage(func(r []byte) []byte { r[len(r)-15] ^= 0xff; return r }), nil,
			[]string{"nothing at all came on the debugcon console in 3 s"}},
		{"jump's segment flipped", damage(func(r []byte) []byte { r[len(r)-12] ^= 0xff; return r }), nil,
			[]string{"nothing at all came", "jumps out of the ROM"}},
		// Behind the vector stands 'cmp dword [cs:HaveRunPost], 0; jnz …': with jnz for jz, a cold start takes the way of a resume.
		{"branch behind the reset vector flipped", damage(func(r []byte) []byte { r[vectorTarget(r)+8] ^= 0xff; return r }), nil,
			[]string{"nothing at all came"}},
		{"tail half erased but for the reset vector", damage(func(r []byte) []byte {
			copy(r[len(r)/2:len(r)-16], bytes.Repeat([]byte{0xff}, len(r)/2))
			return r
		}), nil, []string{"nothing at all came", "where there is no code"}},
		{"resets at once", made(resetROM()), noDisk, []string{"the machine reset itself", "before a line was printed", "expectation 1 of 3 never came"}},
		{"prints, then resets", made(printROM("SeaBIOS (version 1.16.2\n", true)), noDisk,
			[]string{"the machine reset itself", "after ‘SeaBIOS (version 1.16.2’", "expectation 2 of 3 never came: ‘Booting from Hard Disk’"}},
		{"prints, then hangs", made(printROM("SeaBIOS (version 1.16.2\n", false)), noDisk,
			[]string{"the boot stopped: nothing came for 3 s after ‘SeaBIOS (version 1.16.2’"}},
		{"prints a forbidden line", made(printROM("SeaBIOS (version 1\nWARNING - internal error detected at 0x7\n", false)), noDisk,
			[]string{"‘WARNING - internal error detected at 0x7’, which this test forbids"}},
		{"floods the console", made(floodROM()), func(s *smoke.Test) { s.Disk, s.Timeout = false, 2*time.Second },
			[]string{"the test's 2 s passed while the console was still printing, last ‘x’", "expectation 1 of 3 never came"}},
		{"does not see the disk", damage(func(r []byte) []byte { return r }), noDisk, []string{"‘Boot failed: could not read the boot disk’, which this test forbids"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for a silence to end
			test := good(c.name)
			if c.change != nil {
				c.change(&test)
			}
			v := run(t, c.rom(t), test)
			if v.Pass || fault.KindOf(v.Err()) != fault.Smoke {
				t.Fatalf("pass %v, kind %v; want a smoke fault\n%s", v.Pass, fault.KindOf(v.Err()), v.ConsoleTail)
			}
			for _, part := range c.reason {
				if !strings.Contains(v.Reason, part) {
					t.Errorf("reason %q has no %q", v.Reason, part)
				}
			}
		})
	}
}

// What a failed test leaves tells what the machine did, and shows its screen: SeaBIOS wrote there what the console did not
// get. And how the processor stood tells a hang from an endless loop.
func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name   string
		rom    []byte
		reason string
	}{
		{"halts", printROM("SeaBIOS (version 1.16.2\n", false), "nothing came for 3 s after ‘SeaBIOS (version 1.16.2’ (its processor sleeps)"},
		{"spins", craft(0xfa, 0xeb, 0xfe), "in 6 s (its processor ran for "}, // cli; jmp $
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("boots machines")
			}
			test := good(c.name)
			test.Disk, test.Pace = false, 2 // a slow host holds up what runs, but not what sleeps
			v := run(t, c.rom, test)
			if v.Pass || !strings.Contains(v.Reason, c.reason) || !strings.Contains(v.Progress, "processors ran") {
				t.Errorf("pass %v, reason %q, progress %q; want %q", v.Pass, v.Reason, v.Progress, c.reason)
			}
			f, err := os.Open(v.Screen)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := png.Decode(f); err != nil {
				t.Errorf("%s: %v", v.Screen, err)
			}
		})
	}
}

// A QEMU that somebody stopped condemns no ROM.
func TestStoppedQEMUIsTheHostsFault(t *testing.T) {
	rom := filepath.Join(t.TempDir(), "test.rom")
	if testing.Short() {
		t.Skip("boots machines")
	}
	if err := os.WriteFile(rom, printROM("SeaBIOS (version 1.16.2\n", false), 0o644); err != nil {
		t.Fatal(err)
	}
	test := good("stopped")
	test.Disk, test.Silence, test.Timeout = false, 5*time.Minute, 5*time.Minute
	b := &spy{started: func(pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }}
	v, err := smoke.Run(context.Background(), b, vm.TCG, rom, test, t.TempDir())
	if v != nil || fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), "is stopped") {
		t.Fatalf("%+v, %v; want a host fault", v, err)
	}
	b.gone(t)
}

// vectorTarget is where the far jump at the reset vector leads, as an offset in the ROM.
func vectorTarget(rom []byte) int {
	return len(rom) - 1<<16 + int(rom[len(rom)-15]) + int(rom[len(rom)-14])<<8
}

// A flipped byte in an unlucky place boots all the same: the reason why a smoke test is no substitute for hashes.
func TestHintAloneFailsNothing(t *testing.T) {
	rom := bytes.Clone(seabios(t))
	// f000:fff0 becomes 'wait; jmp far', which runs as well and is no jump at first sight.
	jump := bytes.Clone(rom[len(rom)-16 : len(rom)-11])
	rom[len(rom)-16] = 0x9b
	copy(rom[len(rom)-15:], jump)
	v := run(t, rom, good("odd but alive"))
	if !v.Pass || v.ROM.Hint == "" {
		t.Fatalf("pass %v, hint %q, want a pass with a hint: %s", v.Pass, v.ROM.Hint, v.Reason)
	}
}

func TestCancelEndsTheMachine(t *testing.T) {
	rom := filepath.Join(t.TempDir(), "flood.rom")
	if testing.Short() {
		t.Skip("boots machines")
	}
	if err := os.WriteFile(rom, floodROM(), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := &spy{started: func(int) { time.AfterFunc(300*time.Millisecond, cancel) }}
	v, err := smoke.Run(ctx, b, vm.TCG, rom, good("cancel"), t.TempDir())
	if v != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("%+v, %v; want no verdict and the context's error", v, err)
	}
	if b.pid == 0 {
		t.Error("no machine was started")
	}
	b.gone(t)
}

// A QEMU that the host killed condemns no ROM.
func TestQEMUDies(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	rom := filepath.Join(t.TempDir(), "test.rom")
	if err := os.WriteFile(rom, printROM("SeaBIOS (version 1.16.2\n", false), 0o644); err != nil {
		t.Fatal(err)
	}
	test := good("dies")
	test.Disk = false
	// As the kernel does when memory runs out.
	b := &spy{started: func(pid int) {
		time.AfterFunc(300*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}}
	v, err := smoke.Run(context.Background(), b, vm.TCG, rom, test, t.TempDir())
	if v != nil || fault.KindOf(err) != fault.Host {
		t.Fatalf("%+v, %v; want no verdict and a host fault", v, err)
	}
	for _, part := range []string{"QEMU died", "after ‘SeaBIOS (version 1.16.2’", "signal 9 (killed)"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q has no %q", err, part)
		}
	}
	t.Log(err)
}

// The crafted ROMs: 64 KiB, code at f000:0000, and a jump to it at the reset vector.
func craft(code ...byte) []byte {
	rom := bytes.Repeat([]byte{0xff}, 64<<10)
	copy(rom, code)
	copy(rom[len(rom)-16:], []byte{0xea, 0x00, 0x00, 0x00, 0xf0}) // jmp f000:0000
	return rom
}

func resetROM() []byte {
	return craft(
		0xba, 0xf9, 0x0c, // mov dx, 0xcf9: the PCI reset control register
		0xb0, 0x06, //       mov al, 6: hard reset, now
		0xee,       //       out dx, al
		0xeb, 0xfe) //       jmp $
}

// printROM writes text to the debug console, then resets or hangs.
func printROM(text string, reset bool) []byte {
	code := []byte{
		0xbe, 0x20, 0x00, // mov si, 0x20
		0xba, 0x02, 0x04, // mov dx, 0x402
		0x2e, 0xac, //       cs lodsb
		0x84, 0xc0, //       test al, al
		0x74, 0x03, //       jz +3
		0xee,       //       out dx, al
		0xeb, 0xf7, //       jmp to lodsb
		0xfa, 0xf4, //       cli; hlt
	}
	if reset {
		code = append(code[:15], 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfe)
	}
	return craft(append(append(code, make([]byte, 0x20-len(code))...), text+"\x00"...)...)
}

func floodROM() []byte {
	return craft(
		0xba, 0x02, 0x04, // mov dx, 0x402
		0xb0, 'x', 0xee, //  'x'
		0xb0, '\n', 0xee, // and a newline
		0xeb, 0xf8) //       for ever
}
