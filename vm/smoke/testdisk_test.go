package smoke

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The golden file is the boot sector as hexdump(1) -C shows it: a change of the code must be seen in review.
func TestTestDiskGolden(t *testing.T) {
	disk := TestDisk()
	if len(disk) != testDiskSize {
		t.Errorf("%d bytes, want 1 MiB", len(disk))
	}
	if !filledWith(disk[sectorSize:], 0) {
		t.Error("something stands behind the boot sector")
	}
	got := []byte(hex.Dump(disk[:sectorSize]))
	const golden = "testdata/bootsector.golden"
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
		t.Errorf("the boot sector differs from %s:\n%s", golden, got)
	}
}

func TestPartitionTable(t *testing.T) {
	disk := TestDisk()
	e := disk[tableAt : tableAt+16]
	first, count := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	if e[0] != 0x80 || e[4] == 0 || first != 1 || (first+count)*sectorSize != testDiskSize {
		t.Errorf("entry % x: want one active partition from sector 1 to the disk's end", e)
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
