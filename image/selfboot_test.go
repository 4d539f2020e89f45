package image

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/image/initramfs"
)

// TestBootBySelf boots a root as a disk finds itself that nobody has told its serial: on another bus, by its label,
// with a shell on the console, and with nothing from Belljar beside it. Then the same with one bit of it changed.
func TestBootBySelf(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	ctx := t.Context()
	dir := t.TempDir()
	kernel, config := kernelAndConfig(ctx, t, dir)
	for _, m := range kernel.Drivers {
		config.Drivers = append(config.Drivers, onDisk(t, m))
	}
	initrd := createFile(t, filepath.Join(dir, "initrd"))
	if err := initramfs.Build(initrd, config); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "root")
	rootHash := writeRoot(ctx, t, disk)
	boot := func(typed string) string {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // of its own: what came before may have been slow
		defer cancel()
		cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
			"-accel", "tcg,thread=multi", "-machine", "pc-q35-6.2", "-cpu", "Nehalem-v1", "-smp", "2", "-m", "512",
			"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none",
			"-kernel", kernel.Vmlinuz, "-initrd", initrd.Name(),
			"-append", initramfs.Cmdline+" "+initramfs.SelfBoot("root", rootHash),
			"-device", "ich9-ahci,id=sata", "-drive", "if=none,format=raw,id=d,file="+disk,
			"-device", "ide-hd,bus=sata.0,drive=d")
		cmd.Stdin = strings.NewReader(typed) // QEMU keeps it until the guest reads its serial port
		console, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("qemu: %v", err)
		}
		return string(console)
	}

	// What comes before the kernel has opened the serial port is lost.
	console := boot(strings.Repeat("\n", 64) + "B=/belljar/bin/busybox; $B echo seen: $($B id -u) $($B cat /etc/doomed)\n$B poweroff\n")
	for _, want := range []string{"init root sda (dm-verity)", "a shell after", "seen: 0 x", "powering off"} {
		if !strings.Contains(console, want) {
			t.Fatalf("the console lacks %q:\n%s", want, console)
		}
	}

	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	const superblock = partStart + 1024 // of EROFS
	if _, err := f.ReadAt(b, superblock); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, superblock); err != nil {
		t.Fatal(err)
	}
	console = boot("")
	for _, want := range []string{"device-mapper: verity: 8:1: data block 0 is corrupted", "belljar: FATAL"} {
		if !strings.Contains(console, want) {
			t.Fatalf("the console lacks %q:\n%s", want, console)
		}
	}
}
