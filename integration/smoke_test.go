package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Firmware from Debian's own binary packages (seabios, u-boot-qemu, ovmf), which scripts/setup installs for tests.
const (
	debianSeaBIOS = "/usr/share/seabios/bios-256k.bin"
	debianUBoot   = "/usr/lib/u-boot/qemu-x86/u-boot.rom"
	debianUBoot64 = "/usr/lib/u-boot/qemu-x86_64/u-boot.rom"
	debianOVMF    = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	debianSMM     = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	debianVars    = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// foreign is the bytes of a ROM of somebody else's making.
func foreign(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	return data
}

// verdict is what 'belljar smoke --json' says of a test.
type verdict struct {
	Test, ROM, Text, Screen, File string
	Pass                          bool
	Steps                         []struct {
		Step, Line string
		Pass       bool
	}
	Spread *struct{ Boots, Passed int }
}

func verdicts(t *testing.T, stdout string) []verdict {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var e struct {
			Kind   string
			Result struct{ Verdicts []verdict }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if e.Kind == "result" {
			return e.Result.Verdicts
		}
	}
	t.Fatalf("no result in %s", stdout)
	return nil
}

// Debian's firmware passes, and its profile is found by a look at it.
func TestSmokeDebianROMs(t *testing.T) {
	needMachines(t)
	for path, profile := range map[string]string{
		debianSeaBIOS: "seabios", debianUBoot: "u-boot", debianUBoot64: "u-boot", debianOVMF: "ovmf",
	} {
		before := foreign(t, path)
		b := onShared(t)
		o := b.exit(0, "smoke", path, "--json")
		if all := verdicts(t, o.stdout); len(all) != 1 || !all[0].Pass || all[0].Test != profile || all[0].ROM != path {
			t.Errorf("%s: %+v", path, all)
		}
		if !bytes.Equal(before, foreign(t, path)) {
			t.Errorf("%s was changed", path)
		}
	}
}

// A UEFI that demands SMM starts, finds the application on the test disk and lets it power the machine off.
func TestSmokeUEFIDisk(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	profile := filepath.Join(b.cwd, "disk.yaml")
	must(t, os.WriteFile(profile, []byte(`name: disk
machine: pc-q35-6.2
flash: true
disk: true
steps:
  - text: 'BdsDxe: starting Boot'
  - text: BELLJAR TEST DISK BOOTED
  - power-off: true
`), 0o644))
	foreign(t, debianSMM)
	b.exit(0, "smoke", debianSMM, "--profile", profile, "--vars", debianVars)
}

// ROMs damaged on purpose are found out, each for its reason; the evidence is there.
func TestSmokeDamagedROMs(t *testing.T) {
	needMachines(t)
	flip := func(at int) func([]byte) []byte {
		return func(rom []byte) []byte {
			for i := range 16 {
				rom[at+i] ^= 0xff
			}
			return rom
		}
	}
	half := func(rom []byte) []byte { return rom[:len(rom)/2] }
	for _, c := range []struct {
		name, rom string
		damage    func([]byte) []byte
		args      []string
		says      string
	}{
		{"SeaBIOS, its second half lost", debianSeaBIOS, half, []string{"--profile", "seabios", "--timeout", "1s"}, "nothing at all came on the debugcon console"},
		{"SeaBIOS, erased", debianSeaBIOS, func(r []byte) []byte { return bytes.Repeat([]byte{0xff}, len(r)) }, []string{"--profile", "seabios"}, "is all 0xff"},
		{"U-Boot, a flipped piece of code", debianUBoot, flip(0x2000), []string{"--timeout", "1s"}, "expectation 2 of 6 never came: ‘Hit any key to stop autoboot’"},
		{"U-Boot, another", debianUBoot, flip(0x50000), nil, "the machine reset itself"},
		{"UEFI, its half erased", debianOVMF, func(r []byte) []byte {
			copy(r[len(r)/4:], bytes.Repeat([]byte{0xff}, len(r)/2))
			return r
		}, []string{"--profile", "ovmf", "--vars", debianVars, "--timeout", "3s"}, "which is all the time the test has"},
		{"not a whole number of sectors", debianOVMF, func(r []byte) []byte { return r[:len(r)-100] }, []string{"--profile", "ovmf", "--vars", debianVars},
			"no multiple of a flash chip's 4 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := onShared(t)
			data := bytes.Clone(foreign(t, c.rom))
			if c.damage != nil {
				data = c.damage(data)
			}
			path := filepath.Join(b.cwd, "rom.bin")
			must(t, os.WriteFile(path, data, 0o644))
			report := filepath.Join(b.cwd, "junit.xml")
			o := b.exit(7, append([]string{"smoke", path, "--json", "--junit", report}, c.args...)...)
			v := verdicts(t, o.stdout)[0]
			if v.Pass || !strings.Contains(v.Text, c.says) {
				t.Errorf("pass %v, %q; want %q", v.Pass, v.Text, c.says)
			}
			text, err := os.ReadFile(v.File)
			must(t, err)
			contains(t, "verdict.json", string(text), `"pass": false`)
			var suite struct {
				Failures int `xml:"failures,attr"`
				Cases    []struct {
					Failure struct {
						Message string `xml:"message,attr"`
					} `xml:"failure"`
				} `xml:"testcase"`
			}
			data, err = os.ReadFile(report)
			must(t, err)
			must(t, xml.Unmarshal(data, &suite))
			if suite.Failures != 1 || suite.Cases[0].Failure.Message != v.Text {
				t.Errorf("JUnit report: %+v", suite)
			}
		})
	}
}

// With a TPM the same ROM measures the same on every boot; the disk that it boots counts as well.
func TestSmokeTPM(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	profile := filepath.Join(b.cwd, "measured.yaml")
	must(t, os.WriteFile(profile, []byte(`name: measured
machine: pc-q35-6.2
console: debugcon
disk: true
tpm: "2.0"
steps:
  - text: BELLJAR TEST DISK BOOTED
  - pcr: {bank: sha256, index: 4}
`), 0o644))
	value := func(args ...string) string {
		o := b.exit(0, append([]string{"smoke", debianSeaBIOS, "--profile", profile, "--json"}, args...)...)
		v := verdicts(t, o.stdout)[0]
		return v.Steps[len(v.Steps)-1].Line
	}
	first := value()
	if len(first) != 64 || strings.Trim(first, "0") == "" {
		t.Fatalf("PCR 4 is %q", first)
	}
	if again := value("--count", "3"); again != first {
		t.Errorf("PCR 4 is %s, and was %s", again, first)
	}
}

// Two tests at once have nothing to do with each other, nor have several ROMs of one.
func TestSmokeTogether(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			o := b.exit(0, "smoke", debianSeaBIOS, debianUBoot, "--tpm", "2.0", "--json")
			if v := verdicts(t, o.stdout); len(v) != 2 || !v[0].Pass || !v[1].Pass {
				t.Errorf("%+v", v)
			}
		})
	}
	all.Wait()
}

// A host without swtpm is told what to install, and no verdict is given.
func TestSmokeNoSwtpm(t *testing.T) {
	needMachines(t)
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	b := onShared(t)
	bin := t.TempDir()
	must(t, os.Symlink(qemu, filepath.Join(bin, "qemu-system-x86_64")))
	b.env = append(b.env, "PATH="+bin)
	o := b.exit(4, "smoke", debianSeaBIOS, "--tpm", "2.0")
	contains(t, "stderr", o.stderr, "host fault", "swtpm, which emulates TPMs, is not installed", "remedy: install swtpm: apt-get install swtpm")
}

// A person's terminal is the console, and the screen is there for a VNC viewer: one that he starts, and one that Belljar starts,
// here a script that waits.
func TestRunROM(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	l.Close()
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "xtigervncviewer"), []byte("#!/bin/sh\necho \"$$ $1\" >"+bin+"/started\nexec sleep 600\n"), 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "run", debianUBoot64, "--vnc", address, "--display")
	cmd.Env = append(os.Environ(), "BELLJAR_DIR="+b.dir, "DISPLAY=:0", "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Dir = b.cwd
	keys, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	until := func(text string) {
		t.Helper()
		var seen []byte
		for one := make([]byte, 1); !bytes.Contains(seen, []byte(text)); {
			if _, err := out.Read(one); err != nil {
				t.Fatalf("%v, before %q came; %s", err, text, seen)
			}
			seen = append(seen, one[0])
		}
	}
	until("Hit any key")
	io.WriteString(keys, "\n")
	until("=> ")

	started, err := os.ReadFile(filepath.Join(bin, "started"))
	must(t, err)
	var viewerPID int
	var socket string
	if _, err := fmt.Sscan(string(started), &viewerPID, &socket); err != nil {
		t.Fatalf("the viewer was started as %q: %v", started, err)
	}
	if dir, err := os.Stat(filepath.Dir(socket)); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("the screen's folder: %v, %v", dir, err)
	}
	for network, address := range map[string]string{"tcp": address, "unix": socket} {
		viewer, err := net.DialTimeout(network, address, 10*time.Second)
		must(t, err)
		defer viewer.Close()
		greeting := make([]byte, 12)
		if _, err := io.ReadFull(viewer, greeting); err != nil || string(greeting) != "RFB 003.008\n" { // RFC 6143, 7.1.1
			t.Errorf("on %s the screen greets with %q, %v", network, greeting, err)
		}
	}
	io.WriteString(keys, "echo one$undefined two\n")
	until("\none two")
	io.WriteString(keys, "\x1d")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(viewerPID, 0); err != syscall.ESRCH {
		t.Errorf("the viewer is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(socket)); !os.IsNotExist(err) {
		t.Errorf("the screen's folder is still there: %v", err)
	}
}

// A window needs a desktop, and a program that opens it.
func TestRunROMWithoutDesktop(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	b.env = append(b.env, "DISPLAY=", "WAYLAND_DISPLAY=")
	contains(t, "stderr", b.exit(2, "run", debianUBoot, "--display").stderr, "neither DISPLAY nor WAYLAND_DISPLAY is set", "remedy: serve the screen by --vnc")
	qemu, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	bin := t.TempDir()
	must(t, os.Symlink(qemu, filepath.Join(bin, "qemu-system-x86_64")))
	b.env = append(b.env, "DISPLAY=:0", "PATH="+bin)
	contains(t, "stderr", b.exit(4, "run", debianUBoot, "--display").stderr, "neither xtigervncviewer nor gvncviewer", "remedy: install one: apt-get install tigervnc-viewer")
}

// Good ROMs pass again and again: no false alarm in twenty boots of each.
func TestSlowSmokeNoFalseAlarm(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") == "" {
		t.Skip("takes minutes; BELLJAR_SLOW=1 runs it")
	}
	for _, path := range []string{debianSeaBIOS, debianUBoot, debianUBoot64, debianOVMF} {
		o := onShared(t).exit(0, "smoke", path, "--count", "20", "--json")
		if v := verdicts(t, o.stdout)[0]; !v.Pass || v.Spread == nil || v.Spread.Boots != 20 || v.Spread.Passed != 20 {
			t.Errorf("%s: %+v", path, v)
		}
	}
}
