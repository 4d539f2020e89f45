package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const linuxBootSpec = "roms/linuxboot-qemu-q35"

// linuxBoot builds the shipped LinuxBoot ROM, or finds it built.
func linuxBoot(t *testing.T) (*belljar, string) {
	t.Helper()
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("builds a kernel, the first time; asked for by BELLJAR_SLOW=1")
	}
	b := onShared(t)
	b.succeed("fetch", linuxBootSpec)
	var r built
	o := b.succeed("build", linuxBootSpec, "--json")
	o.result(t, &r)
	t.Logf("cached %v, under %s, took %s", r.Cached, r.Accel, o.took.Round(time.Second))
	return b, r.Artifacts[0].Path
}

// The shipped LinuxBoot ROM is that of docs/roms.md, and measures the same in each of five boots: what its spec says.
func TestSlowLinuxBoot(t *testing.T) {
	b, path := linuxBoot(t)
	known, err := os.ReadFile("../docs/roms.md")
	must(t, err)
	contains(t, "docs/roms.md", string(known), "`"+digestOf(t, path)+"`")
	contains(t, "belljar rom", b.succeed("rom", path).stdout, "coreboot 4.15-belljar", "payload    Linux, with an initrd of ")
	for _, v := range verdicts(t, b.succeed("smoke", linuxBootSpec, path, "--count", "5", "--json").stdout) {
		if !v.Pass || v.Spread == nil || v.Spread.Passed != 5 {
			t.Errorf("%+v", v)
		}
	}
}

// ROMs made bad from the good one are caught, each for its reason. What changes /init or its configuration replaces text by as
// much other text: the initrd lies in the ROM as it is.
func TestSlowLinuxBootDamaged(t *testing.T) {
	_, path := linuxBoot(t)
	good, err := os.ReadFile(path)
	must(t, err)
	const measuring = "  measure 7 /etc/config </etc/config\n"
	spec := []string{linuxBootSpec}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, rom []byte)
		spec   []string // before the ROM
		args   []string // behind it
		says   string
	}{
		{"a broken command line", text("console=ttyS0,115200 panic=5", "console=ttyS0 rdinit=/broken"), spec, nil,
			"Kernel panic - not syncing: VFS: Unable to mount root fs"},
		{"init hangs", text(measuring, "  while :; do sleep 99; done\n"), spec, nil,
			" s after ‘linuxboot: init runs on Linux 6.1.176-belljar’ (its processor "},
		{"init resets", text(measuring, "  reboot -f\n"), spec, nil, "the machine reset itself"},
		{"init resets over and over", text(measuring, "  reboot -f\n"), nil, []string{"--profile", "reset.yaml"},
			"the machine reset itself once more than the test lets it (1)"},
		{"success, and then a panic", text(`say "init runs on Linux $(uname -r)"`, "say all is well; exit 1"), nil, []string{"--profile", "linuxboot", "--expect", "all is well"},
			"which this test forbids (pattern ‘Kernel panic - not syncing’), after all that it expects had come"},
		{"another configuration", text("# What this ROM is told.", "# What this ROM is TOLD."), spec, nil, "PCR 2 (sha256), of payload, is "},
		{"another init", text("# The first process of", "# THE first process of"), nil, []string{"--tpm", "2.0", "--reference", "good.rom"},
			"it measured what good.rom does not hold: console and TPM: event 6, FMAP: COREBOOT CBFS: fallback/payload, is "},
		{"a flipped bit in romstage", flipText("romstage starting"), nil, []string{"--tpm", "2.0", "--reference", "good.rom"},
			"it measured what good.rom does not hold: console and TPM: event 3, FMAP: COREBOOT CBFS: fallback/romstage, is "},
		{"a flipped piece of the kernel", func(t *testing.T, rom []byte) {
			at := bytes.Index(rom, []byte("\xfd7zXZ\x00")) // the kernel's own compressed part (xz-file-format.txt, 2.1.1.1)
			for i := range 16 {
				rom[at+4096+i] ^= 0xff
			}
		}, spec, []string{"--timeout", "10s"}, "after ‘Jumping to boot code at "},
		{"a payload without its magic", func(t *testing.T, rom []byte) {
			copy(rom[bytes.Index(rom, []byte("fallback/payload\x00"))-24:], "LARCHIVX") // the head of its file in CBFS
		}, spec, nil, "‘Payload not loaded.’, which this test forbids"},
		{"another machine", nil, spec, []string{"--machine", "pc-i440fx-6.2"}, "never came"},
		{"no TPM", nil, spec, []string{"--tpm", "none"}, "the console says ‘linuxboot: no TPM: nothing is measured’, which this test forbids"},
		{"a TPM of another version", nil, []string{}, []string{"--tpm", "1.2"}, "is built for a TPM 2.0, and the machine has a TPM 1.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := onShared(t)
			must(t, os.WriteFile(filepath.Join(b.cwd, "good.rom"), good, 0o644))
			must(t, os.WriteFile(filepath.Join(b.cwd, "reset.yaml"), []byte(resetProfile), 0o644))
			rom := bytes.Clone(good)
			if c.damage != nil {
				c.damage(t, rom)
			}
			bad := filepath.Join(b.cwd, "bad.rom")
			must(t, os.WriteFile(bad, rom, 0o644))
			args := append(append([]string{"smoke"}, c.spec...), bad, "--json")
			var said []string
			for _, v := range verdicts(t, b.exit(7, append(args, c.args...)...).stdout) {
				said = append(said, v.Text)
			}
			contains(t, "verdicts", strings.Join(said, "\n"), c.says)
		})
	}
}

// resetProfile is a test that lets the machine reset once.
const resetProfile = `name: reset
machine: pc-q35-6.2
tpm: "2.0"
steps:
  - text: 'linuxboot: init runs'
  - reboot: true
  - text: 'linuxboot: init runs'
  - text: never
`

// text is the damage that puts another text, filled up with spaces, where the ROM has that one last.
func text(old, replacement string) func(*testing.T, []byte) {
	return func(t *testing.T, rom []byte) {
		t.Helper()
		at := bytes.LastIndex(rom, []byte(old))
		if at < 0 || len(replacement) > len(old) {
			t.Fatalf("%q is at %#x of the ROM, and has %d bytes for %d", old, at, len(old), len(replacement))
		}
		replacement := strings.TrimSuffix(replacement, "\n")
		copy(rom[at:], replacement+strings.Repeat(" ", len(strings.TrimSuffix(old, "\n"))-len(replacement)))
	}
}

// flipText is the damage that flips a bit of a text.
func flipText(old string) func(*testing.T, []byte) {
	return func(t *testing.T, rom []byte) {
		t.Helper()
		at := bytes.Index(rom, []byte(old))
		if at < 0 {
			t.Fatalf("%q is not in the ROM", old)
		}
		rom[at] ^= 0x20
	}
}
