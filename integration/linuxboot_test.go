package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
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
	return b, b.buildROM(linuxBootSpec)
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

// A disk that image made is found by the ROM's init, measured and started; what it starts is the ROM's own kernel, with an
// init that says so.
func TestSlowLinuxBootDisk(t *testing.T) {
	b, path := linuxBoot(t)
	b.succeed("stage", "export", linuxBootSpec+"#kernel", "--output", "kernel.tar")
	b.succeed("stage", "export", linuxBootSpec+"#busybox", "--output", "busybox.tar")
	disk := filepath.Join(b.cwd, "disk.img")
	out, err := os.Create(disk)
	must(t, err)
	defer out.Close()
	content := image.LinuxDisk{
		Kernel:    inMemory(member(t, filepath.Join(b.cwd, "kernel.tar"), "bzImage")),
		Initramfs: inMemory(diskInitramfs(t, member(t, filepath.Join(b.cwd, "busybox.tar"), "busybox"))),
		Cmdline:   "console=ttyS0,115200 panic=5",
	}
	must(t, content.Write(context.Background(), out, b.cwd, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))

	profile := filepath.Join(b.cwd, "disk.yaml")
	must(t, os.WriteFile(profile, []byte(`name: disk
machine: pc-q35-6.2
tpm: "2.0"
steps:
  - text: 'linuxboot: measured /boot/vmlinuz into PCR 5'
  - text: 'linuxboot: starting /boot/vmlinuz of /dev/sda1'
  - text: 'Linux version'
  - expect: '^the disk starts$'
  - power-off: true
  - pcr: {bank: sha256, index: 5}
forbid: ['Kernel panic']
`), 0o644))
	v := verdicts(t, b.exit(0, "smoke", path, "--profile", profile, "--disk", disk, "--json").stdout)[0]
	if len(v.Steps) != 7 || !strings.HasPrefix(v.Steps[6].Line, "6 measurements (sha256), each as expected") {
		t.Errorf("%+v", v.Steps)
	}
}

func inMemory(data []byte) image.BootFile {
	return image.BootFile{Size: int64(len(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// member is a file of an exported stage.
func member(t *testing.T, archive, name string) []byte {
	t.Helper()
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s in %s: %v", name, archive, err)
		}
		if h.Name == name {
			data, err := io.ReadAll(r)
			must(t, err)
			return data
		}
	}
}

// diskInitramfs is what the disk's kernel starts: a shell script that says so and powers the machine off.
func diskInitramfs(t *testing.T, busybox []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := initramfs.NewWriter(&b)
	for _, f := range []struct {
		name string
		mode uint32
		data []byte
	}{
		{"bin", initramfs.TypeDir | 0o755, nil},
		{"bin/busybox", initramfs.TypeFile | 0o755, busybox},
		{"init", initramfs.TypeFile | 0o755, []byte("#!/bin/busybox sh\necho the disk starts\nexec /bin/busybox poweroff -f\n")},
	} {
		must(t, w.WriteHeader(initramfs.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}))
		_, err := w.Write(f.data)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}
