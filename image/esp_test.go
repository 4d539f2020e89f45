package image

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func bootFile(text string) BootFile {
	return BootFile{int64(len(text)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// testBoot is a boot partition's content, with files that end within, at and behind a cluster.
func testBoot(arch string) *Boot {
	return &Boot{
		Arch: arch, Title: "Belljar", Cmdline: "console=ttyS0 belljar.console",
		Kernel: bootFile(strings.Repeat("kernel.", 1<<20)), Initramfs: bootFile(strings.Repeat("i", 1024)),
		Loader: bootFile("MZ loader"),
	}
}

func testESP(t *testing.T, arch string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "esp"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := writeESP(t.Context(), f, testBoot(arch), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Fatalf("%d bytes, %d told (%v)", info.Size(), size, err)
	}
	return f.Name()
}

// foreign runs a tool that 'make setup-test' installs.
func foreign(t *testing.T, name string, args ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		name = path
	} else {
		name = filepath.Join("/usr/sbin", name) // not on everybody's PATH
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestESPIsReadByOtherTools(t *testing.T) {
	for arch, efi := range map[string]string{"x86_64": "BOOTX64.EFI", "i686": "BOOTIA32.EFI"} {
		t.Run(arch, func(t *testing.T) {
			esp := testESP(t, arch)
			foreign(t, "fsck.fat", "-n", esp)
			b := testBoot(arch)
			for name, want := range map[string]string{
				"/EFI/BOOT/" + efi: "MZ loader",
				"/belljar/vmlinuz": strings.Repeat("kernel.", 1<<20),
				"/belljar/initrd":  strings.Repeat("i", 1024),
				"/loader/entries/belljar.conf": "title Belljar\nlinux /belljar/vmlinuz\ninitrd /belljar/initrd\n" +
					"options " + b.Cmdline + "\n",
				"/loader/loader.conf": "default belljar.conf\ntimeout 0\nconsole-mode keep\n",
			} {
				if got := foreign(t, "mtype", "-i", esp, "::"+name); got != want {
					t.Errorf("%s: mtype reads %d bytes, want %d", name, len(got), len(want))
				}
			}
			info := foreign(t, "minfo", "-i", esp)
			if !strings.Contains(info, "FAT32") || !strings.Contains(info, "serial number: 6955B900") {
				t.Errorf("minfo says:\n%s", info)
			}
		})
	}
}

func TestESPSameBytesAtAnotherTime(t *testing.T) {
	var images [2][]byte
	for i, at := range []string{"1000000000", "1700000000"} {
		t.Setenv("SOURCE_DATE_EPOCH", at) // where go-diskfs looks for the time of day
		b, err := os.ReadFile(testESP(t, "x86_64"))
		if err != nil {
			t.Fatal(err)
		}
		images[i] = b
	}
	for at := range images[0] {
		if images[0][at] != images[1][at] {
			t.Fatalf("byte %#x is %#x at one time and %#x at another", at, images[0][at], images[1][at])
		}
	}
}
