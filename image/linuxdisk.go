package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/diskfs/go-diskfs/partition/mbr"
)

// LinuxDisk is what firmware with a Linux of its own, such as roms/linuxboot-qemu-q35, finds on a disk and starts: one active
// FAT partition with a kernel, an initramfs, and a description that names them.
type LinuxDisk struct {
	Kernel    BootFile
	Initramfs BootFile
	Cmdline   string // the kernel's
}

// DiskDescription is the file of a LinuxDisk that names what is to be started. It has a line each with a key and a value:
// kernel, initrd and append, as the configuration of SYSLINUX calls them. Files are named as seen from the partition's root.
const DiskDescription = "linuxboot.conf"

// linuxDiskID is the disk's signature, always the same as the disk is.
const linuxDiskID = 0x424a4c42

// Write makes the disk in an empty file: of the same content, always the same bytes. Scratch space lies in tempDir.
func (d *LinuxDisk) Write(ctx context.Context, out *os.File, tempDir string, clock time.Time) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("disk with a Linux: %w", err)
		}
	}()
	volume, err := os.CreateTemp(tempDir, "fat-*")
	if err != nil {
		return err
	}
	defer func() {
		volume.Close()
		_ = os.Remove(volume.Name())
	}()
	size, err := writeFAT(ctx, volume, []fatEntry{
		{"/vmlinuz", &d.Kernel},
		{"/initrd", &d.Initramfs},
		{"/" + DiskDescription, textFile("kernel vmlinuz\ninitrd initrd\nappend " + d.Cmdline + "\n")},
	}, clock)
	if err != nil {
		return err
	}
	const start = 1 << 20 // where partitions are expected to begin
	if err := out.Truncate(start + size); err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(volume, 0, size)); err != nil {
		return err
	}
	return WriteMBR(out, start+size, linuxDiskID, []MBRPartition{
		{Type: mbr.Fat32LBA, Offset: start, Size: size, Bootable: true},
	})
}
