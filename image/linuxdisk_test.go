package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testLinuxDisk(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	d := &LinuxDisk{Kernel: bootFile(strings.Repeat("kernel.", 1<<20)), Initramfs: bootFile("initrd"), Cmdline: "console=ttyS0 panic=5"}
	if err := d.Write(t.Context(), f, t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLinuxDiskIsReadByOtherTools(t *testing.T) {
	disk := testLinuxDisk(t).Name()
	foreign(t, "sfdisk", "--verify", disk)
	if dump := foreign(t, "sfdisk", "--dump", disk); !strings.Contains(dump, "1 : start=        2048, size=       81920, type=c, bootable") {
		t.Errorf("sfdisk says:\n%s", dump)
	}
	for name, want := range map[string]string{
		"/vmlinuz":            strings.Repeat("kernel.", 1<<20),
		"/initrd":             "initrd",
		"/" + DiskDescription: "kernel vmlinuz\ninitrd initrd\nappend console=ttyS0 panic=5\n",
	} {
		if got := foreign(t, "mtype", "-i", disk+"@@1M", "::"+name); got != want {
			t.Errorf("%s: mtype reads %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestLinuxDiskSameBytes(t *testing.T) {
	var disks [2][]byte
	for i, at := range []string{"1000000000", "1700000000"} {
		t.Setenv("SOURCE_DATE_EPOCH", at) // where go-diskfs looks for the time of day
		b, err := os.ReadFile(testLinuxDisk(t).Name())
		if err != nil {
			t.Fatal(err)
		}
		disks[i] = b
	}
	if !bytes.Equal(disks[0], disks[1]) {
		t.Error("the disk differs from one time to the next")
	}
}
