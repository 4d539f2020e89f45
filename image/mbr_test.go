package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/mbr"
)

func TestMBRIsReadByOtherTools(t *testing.T) {
	const size = 64 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("boot code"), 0)
	err = WriteMBR(f, size, 0xdeadbeef, []MBRPartition{
		{Type: mbr.Fat32LBA, Offset: 1 << 20, Size: 40 << 20, Bootable: true},
		{Type: mbr.Linux, Offset: 41 << 20, Size: 23 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	dump := foreign(t, "sfdisk", "--dump", f.Name())
	for _, want := range []string{
		"label: dos", "label-id: 0xdeadbeef", "1 : start=        2048, size=       81920, type=c, bootable",
		"2 : start=       83968, size=       47104, type=83",
	} {
		if !strings.Contains(dump, want) {
			t.Errorf("sfdisk does not say %q:\n%s", want, dump)
		}
	}
	foreign(t, "sfdisk", "--verify", f.Name())
	table, parts, _, err := readPartitions(f, size)
	if err != nil || table != "MBR" || len(parts) != 2 || parts[1].Offset != 41<<20 || parts[1].Size != 23<<20 {
		t.Errorf("read back: %s %+v (%v)", table, parts, err)
	}
	code := make([]byte, 9)
	if _, err := f.ReadAt(code, 0); err != nil || string(code) != "boot code" {
		t.Errorf("the boot code became %q (%v)", code, err)
	}
}

func TestMBRRefusals(t *testing.T) {
	const size, mib = 64 << 20, 1 << 20
	one := MBRPartition{Type: mbr.Linux, Offset: mib, Size: mib}
	at := func(offset, length int64) MBRPartition {
		return MBRPartition{Type: mbr.Linux, Offset: offset, Size: length}
	}
	active := one
	active.Bootable = true
	other := at(8*mib, mib)
	other.Bootable = true
	for name, c := range map[string]struct {
		parts []MBRPartition
		want  string
	}{
		"five":         {[]MBRPartition{one, one, one, one, one}, "5 partitions; there is room for 4"},
		"no type":      {[]MBRPartition{{Offset: mib, Size: mib}}, "partition 1: type 0"},
		"half sectors": {[]MBRPartition{at(mib+1, mib)}, "not whole sectors"},
		"over the MBR": {[]MBRPartition{at(0, mib)}, "not within a disk"},
		"over the end": {[]MBRPartition{at(60*mib, 5*mib)}, "not within a disk"},
		"empty":        {[]MBRPartition{at(mib, 0)}, "not within a disk"},
		"overlap":      {[]MBRPartition{at(4*mib, 2*mib), at(mib, 4*mib)}, "partitions at 1048576 and 4194304 overlap"},
		"two active":   {[]MBRPartition{active, other}, "2 partitions are marked active"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkMBR(size, c.parts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := checkMBR(4<<40, []MBRPartition{at(3<<40, mib)}); err == nil || !strings.Contains(err.Error(), "2 TiB") {
		t.Errorf("beyond 2 TiB: %v", err)
	}
}
