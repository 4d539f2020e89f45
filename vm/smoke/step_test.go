package smoke_test

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// file is a ROM of Debian's, which 'scripts/setup test' installs.
func file(t *testing.T, path string) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines")
	}
	rom, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	return rom
}

// uboot is U-Boot of 64 bits: that of 32 may hang where there is a screen (profile u-boot).
func uboot(t *testing.T) []byte { return file(t, "/usr/lib/u-boot/qemu-x86_64/u-boot.rom") }

// prompt brings U-Boot to its prompt.
func prompt(more ...smoke.Step) smoke.Test {
	return smoke.Test{
		Name: "u-boot", Machine: "pc-i440fx-6.2", Silence: 20 * time.Second, Timeout: 3 * time.Minute, Forbid: []string{`### ERROR ### Please RESET the board ###`},
		Steps: append([]smoke.Step{
			{Expect: `^U-Boot 20\d\d`}, {Text: "Hit any key to stop autoboot"}, {Send: "\n"}, {Expect: `^=> ?$`},
		}, more...),
	}
}

// A boot loader is spoken to, and reset: by itself, and by the button.
func TestSteps(t *testing.T) {
	v := run(t, uboot(t), prompt(
		smoke.Step{Send: "echo one$undefined two\n"}, smoke.Step{Expect: "^one two$", Note: "its shell expands"},
		smoke.Step{Screenshot: "prompt"},
		smoke.Step{Send: "reset\n"}, smoke.Step{Reboot: true, Within: 30 * time.Second}, smoke.Step{Expect: `^U-Boot 20\d\d`},
		smoke.Step{QMP: "system_reset"}, smoke.Step{Reboot: true}, smoke.Step{Expect: `^U-Boot 20\d\d`},
	))
	if !v.Pass {
		t.Fatalf("%s\n%s", v.Reason, v.ConsoleTail)
	}
	if n := len(v.Steps); n != 13 || !v.Steps[n-1].Pass || v.Steps[5].Note != "its shell expands" || v.Steps[8].Line != "the machine reset itself" {
		t.Errorf("steps: %+v", v.Steps)
	}
	f, err := os.Open(v.Steps[6].Line)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil || filepath.Base(f.Name()) != "prompt.png" {
		t.Errorf("%s: %v", f.Name(), err)
	}
	if text, err := os.ReadFile(v.File); err != nil || !strings.Contains(string(text), `"line": "one two"`) {
		t.Errorf("verdict.json: %v\n%s", err, text)
	}
}

// Each way in which a step can fail has its sentence.
func TestStepsFail(t *testing.T) {
	for _, c := range []struct {
		name string
		test smoke.Test
		want []string
	}{
		{"a reset that no step waits for", prompt(smoke.Step{Send: "reset\n"}, smoke.Step{Text: "never", Note: "a thing"}),
			[]string{"the machine reset itself ", "expectation 6 of 6 never came: ‘never’ (a thing)"}},
		{"a second reset where one is waited for", prompt(smoke.Step{Send: "reset\n"}, smoke.Step{Reboot: true},
			smoke.Step{Text: "Hit any key"}, smoke.Step{Send: "\n"}, smoke.Step{Expect: `^=> ?$`}, smoke.Step{Send: "reset\n"}, smoke.Step{Text: "never"}),
			[]string{"the machine reset itself once more than the test lets it (1)", "expectation 11 of 11 never came"}},
		{"a step's own time", prompt(smoke.Step{Text: "never", Within: 300 * time.Millisecond}),
			[]string{"0.3 s passed while the machine was still running, last ‘=>’; expectation 5 of 5 never came: ‘never’"}},
		{"power-off that does not come", prompt(smoke.Step{PowerOff: true, Within: 300 * time.Millisecond}),
			[]string{"step 5 of 5 never came: ‘power-off’"}},
		{"all well, and then a reset", prompt(smoke.Step{Send: "echo all is well; reset\n"}, smoke.Step{Expect: "^all is well"}),
			[]string{"all 6 steps came, and then the machine reset itself"}},
		{"all well, and then what is forbidden", func() smoke.Test {
			test := prompt(smoke.Step{Send: "echo all is well; echo then panic\n"}, smoke.Step{Expect: "^all is well"})
			test.Forbid = []string{"^then panic"}
			return test
		}(), []string{"the console says ‘then panic’, which this test forbids (pattern ‘^then panic’), after all that it expects had come"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rom := uboot(t)
			t.Parallel()
			c.test.Settle = 20 * time.Second // what is waited for ends it; a busy machine may take its time
			v := run(t, rom, c.test)
			if v.Pass || fault.KindOf(v.Err()) != fault.Smoke {
				t.Fatalf("pass %v, %v", v.Pass, v.Err())
			}
			for _, want := range c.want {
				if !strings.Contains(v.Reason, want) {
					t.Errorf("reason %q has no %q", v.Reason, want)
				}
			}
		})
	}
}

// withTPM is QEMU's SeaBIOS, which measures the disk that it boots from into PCR 4.
func withTPM(version vm.TPM, more ...smoke.Step) smoke.Test {
	test := good("tpm " + string(version))
	test.TPM, test.Steps = version, more
	return test
}

func TestPCRs(t *testing.T) {
	for version, bank := range map[vm.TPM]string{vm.TPM20: "sha256", vm.TPM12: "sha1"} {
		t.Run(string(version), func(t *testing.T) {
			rom := seabios(t)
			look := smoke.Step{PCR: &smoke.PCR{Bank: bank, Index: 4}}
			v := run(t, rom, withTPM(version, look))
			if !v.Pass {
				t.Fatal(v.Reason)
			}
			value := v.Steps[3].Line
			if strings.Trim(value, "0") == "" {
				t.Fatalf("PCR 4 is %q: SeaBIOS did not measure what it boots", value)
			}
			// Fresh for each test: the same again, and not twice as much.
			if again := run(t, rom, withTPM(version, look)); again.Steps[3].Line != value {
				t.Errorf("PCR 4 is %s, and was %s", again.Steps[3].Line, value)
			}
			var events []smoke.Event
			for _, m := range v.Measured {
				if m.Bank == bank && m.PCR == 4 {
					events = append(events, smoke.Event{Digest: m.Digest})
				}
			}
			if v := run(t, rom, withTPM(version, smoke.Step{EventLog: &smoke.EventLog{Bank: bank, Index: 4, Events: events}})); !v.Pass {
				t.Errorf("its own event log: %s", v.Reason)
			}
		})
	}
}

func TestPCRsDiffer(t *testing.T) {
	zero := make([]byte, 32)
	for _, c := range []struct {
		name string
		step smoke.Step
		want string
	}{
		{"a register", smoke.Step{PCR: &smoke.PCR{Bank: "sha256", Index: 4, Value: zero}}, "and the test wants 0000000000000000000000000000000000000000000000000000000000000000; measured into it were, in order: "},
		{"one that nobody used", smoke.Step{PCR: &smoke.PCR{Bank: "sha256", Index: 12, Value: []byte{1}}}, "; nothing was measured into it"},
		{"a measurement", smoke.Step{EventLog: &smoke.EventLog{Bank: "sha256", Index: 4, Events: []smoke.Event{{Name: "the boot sector", Digest: zero}}}},
			"measurement 1 of 1 into PCR 4 (sha256), of the boot sector, is "},
		{"one too few", smoke.Step{EventLog: &smoke.EventLog{Bank: "sha256", Index: 12, Events: []smoke.Event{{Digest: zero}}}},
			"measurement 1 of 1 into PCR 12 (sha256) never came: the test wants 0000"},
		{"what a judge says", smoke.Step{Judge: &smoke.Judge{Name: "the boot sector", Bank: "sha256", Of: func(seen smoke.MeasuredBoot) (string, string, error) {
			console, err := io.ReadAll(seen.Console)
			return "", fmt.Sprintf("%d PCRs, measured %v, console has the disk's line %v", len(seen.PCRs), len(seen.Extensions) > 0,
				bytes.Contains(console, []byte(smoke.TestDiskLine))), err
		}}}, "24 PCRs, measured true, console has the disk's line true"},
		{"some too many", smoke.Step{EventLog: &smoke.EventLog{Bank: "sha256", Index: 4}}, "after the 0 expected measurements into PCR 4 (sha256) came "},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := run(t, seabios(t), withTPM(vm.TPM20, c.step))
			if v.Pass || !strings.Contains(v.Reason, c.want) {
				t.Errorf("pass %v, reason %q; want %q", v.Pass, v.Reason, c.want)
			}
		})
	}
}

// U-Boot leaves the TPM alone: there is nothing to read, and that is the ROM's doing.
func TestTPMNotStarted(t *testing.T) {
	test := prompt(smoke.Step{PCR: &smoke.PCR{Bank: "sha256", Index: 2}})
	test.TPM = vm.TPM20
	v := run(t, uboot(t), test)
	if v.Pass || !strings.Contains(v.Reason, "PCR 2 (sha256) cannot be read: the firmware has not started the TPM") {
		t.Errorf("pass %v, reason %q", v.Pass, v.Reason)
	}
}

// A machine without a TPM has nothing to look at: that is a finding, where a test had its TPM taken away.
func TestNoTPM(t *testing.T) {
	for _, step := range []smoke.Step{
		{PCR: &smoke.PCR{Bank: "sha256", Index: 2}}, {EventLog: &smoke.EventLog{Bank: "sha256"}}, {Judge: &smoke.Judge{Name: "measured boot", Bank: "sha256"}},
	} {
		v := run(t, seabios(t), withTPM("", step))
		if v.Pass || v.Reason != "the machine has no TPM, and the test looks at what was measured into one" {
			t.Errorf("%s: pass %v, reason %q", step, v.Pass, v.Reason)
		}
	}
}

// A TPM that dies in mid-boot says nothing of the ROM.
func TestSwtpmDies(t *testing.T) {
	rom := filepath.Join(t.TempDir(), "test.rom")
	if err := os.WriteFile(rom, uboot(t), 0o644); err != nil {
		t.Fatal(err)
	}
	test := prompt(smoke.Step{Text: "never"})
	test.TPM = vm.TPM20
	dir := t.TempDir()
	b := &spy{started: func(int) {
		pid := childNamed(t, "swtpm", dir)
		time.AfterFunc(300*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}}
	v, err := smoke.Run(context.Background(), b, vm.TCG, rom, test, dir)
	if v != nil || fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), "swtpm, the machine's TPM, ended on its own: signal 9") {
		t.Fatalf("%+v, %v; want a host fault", v, err)
	}
	b.gone(t)
}

// childNamed finds the process of that program that works in the TPM's folder of a machine.
func childNamed(t *testing.T, name, dir string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid := 0
		for _, c := range e.Name() {
			if c < '0' || c > '9' {
				pid = -1
				break
			}
			pid = pid*10 + int(c-'0')
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		comm, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if pid > 0 && strings.TrimSpace(string(comm)) == name && cwd == filepath.Join(dir, "tpm") {
			return pid
		}
	}
	t.Fatalf("no %s runs in %s", name, dir)
	return 0
}
