package smoke

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The golden file is what of the disk is not zero, as hexdump(1) -C shows it: a change of the code must be seen in review.
func TestTestDiskGolden(t *testing.T) {
	disk := TestDisk()
	if len(disk) != testDiskSize {
		t.Errorf("%d bytes, want 1 MiB", len(disk))
	}
	used := bytes.TrimRight(disk, "\x00")
	got := []byte(squeezed(hex.Dump(used)))
	const golden = "testdata/testdisk.golden"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the disk differs from %s:\n%s", golden, got)
	}
}

// squeezed leaves out lines of zeros.
func squeezed(dump string) string {
	var out strings.Builder
	for line := range strings.Lines(dump) {
		if strings.Trim(line[8:58], " 0") != "" {
			out.WriteString(line)
		}
	}
	return out.String()
}

// Other programs' readers of FAT and PE find no fault with the disk's volume and the applications.
func TestTestDiskVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume.img")
	if err := os.WriteFile(path, TestDisk()[sectorSize:], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/sbin/fsck.fat", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
	for name, want := range map[string]struct {
		app     []byte
		machine uint16
	}{
		"BOOTX64.EFI":  {application(bits64), pe.IMAGE_FILE_MACHINE_AMD64},
		"BOOTIA32.EFI": {application(bits32), pe.IMAGE_FILE_MACHINE_I386},
	} {
		to := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("mcopy", "-i", path, "::/EFI/BOOT/"+name, to).CombinedOutput(); err != nil {
			t.Fatalf("mcopy: %v\n%s", err, out)
		}
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want.app) {
			t.Errorf("%s is not what was written, %v", name, err)
		}
		f, err := pe.Open(to)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer f.Close()
		if s := f.Section(".text"); f.Machine != want.machine || s == nil || s.Offset != appSector || s.VirtualAddress != appAlign {
			t.Errorf("%s: machine %#x, sections %+v", name, f.Machine, f.Sections)
		}
	}
}

func TestPartitionTable(t *testing.T) {
	disk := TestDisk()
	e := disk[tableAt : tableAt+16]
	first, count := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	if e[0] != 0x80 || e[4] != 0xef || first != 1 || (first+count)*sectorSize != testDiskSize {
		t.Errorf("entry % x: want one active EFI system partition from sector 1 to the disk's end", e)
	}
	if !filledWith(disk[tableAt+16:510], 0) {
		t.Error("more than one partition")
	}
	if disk[510] != 0x55 || disk[511] != 0xaa {
		t.Error("no boot signature")
	}
}

func TestCHS(t *testing.T) {
	for _, c := range []struct {
		lba     uint32
		c, h, s int
	}{{0, 0, 0, 1}, {62, 0, 0, 63}, {63, 0, 1, 1}, {1008, 1, 0, 1}, {2047, 2, 0, 32}, {256*1008 + 5, 256, 0, 6}} {
		b := chs(c.lba)
		if h, s, cyl := int(b[0]), int(b[1]&63), int(b[2])|int(b[1]&0xc0)<<2; h != c.h || s != c.s || cyl != c.c {
			t.Errorf("sector %d: C/H/S %d/%d/%d, want %d/%d/%d", c.lba, cyl, h, s, c.c, c.h, c.s)
		}
	}
}

func TestAssemblerRefusesBadJumps(t *testing.T) {
	for name, build := range map[string]func(*assembler){
		"unknown label": func(a *assembler) { a.short("jmp", 0xeb, "nowhere") },
		"too far": func(a *assembler) {
			a.label("back")
			a.op("nops", make([]byte, 200)...)
			a.short("jmp", 0xeb, "back")
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("assembled; want a panic")
				}
			}()
			var a assembler
			build(&a)
			a.bytes()
		})
	}
}
