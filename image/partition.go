package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"
)

// Partition is an entry of a disk's partition table.
type Partition struct {
	Number     int    `json:"number"`
	Type       string `json:"type"` // its name where it is known, otherwise its GUID or, of an MBR, its number
	Label      string `json:"label,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	Offset     int64  `json:"offset"`
	Size       int64  `json:"size"`
	FileSystem string `json:"file_system,omitempty"` // what lies in it; empty: nothing that is known here
}

// Bounds on a partition table: Linux makes at most 256 partitions of a disk, tools write 128 entries.
const (
	maxEntries   = 1024
	maxEntrySize = 4096
)

// gptTypes are the types that Linux's tools make: UEFI 2.10 table 5.7, the Discoverable Partitions Specification, GRUB.
var gptTypes = map[string]string{
	"0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux file system",
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
	"21686148-6449-6e6f-744e-656564454649": "BIOS boot",
	"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
	"44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
	"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux root verity (x86-64)",
	"d13c5d3b-b5d1-422a-b29f-9454fdc89d76": "Linux root verity (x86)",
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
	"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "basic data",
}

// mbrTypes are the same of an MBR.
var mbrTypes = map[byte]string{
	0x0b: "FAT32", 0x0c: "FAT32", 0x0e: "FAT16", 0x06: "FAT16", 0x82: "Linux swap", 0x83: "Linux file system",
	0xef: "EFI system", 0xee: "GPT protective",
}

// errNoTable says that there is no partition table at all, not even a damaged one.
var errNoTable = errors.New("no partition table")

// readPartitions reads the partition table of a disk. note says what is wrong with a table that could be read all the
// same: its second copy stood in for the first.
func readPartitions(r io.ReaderAt, size int64) (table string, parts []Partition, note string, err error) {
	protective, mbr := readMBR(r, size)
	var damage error
	for _, sector := range []int64{512, 4096} {
		parts, first := readGPT(r, size, sector, sector)
		if first == nil {
			return "GPT", parts, "", nil
		}
		parts, second := readGPT(r, size, sector, size/sector*sector-sector)
		if second == nil {
			return "GPT", parts, "the first partition table is damaged (" + first.Error() +
				"); the copy at the end of the disk was read", nil
		}
		for _, err := range []error{first, second} {
			if damage == nil && !errors.Is(err, errNoTable) {
				damage = err
			}
		}
	}
	switch {
	case damage != nil:
		return "", nil, "", fmt.Errorf("both partition tables are damaged: %w", damage)
	case protective:
		return "", nil, "", errors.New("its MBR says that there is a GPT, but neither copy of it is there")
	case len(mbr) > 0:
		return "MBR", mbr, "", nil
	}
	return "", nil, "", errNoTable
}

// readGPT reads the table whose header lies at that offset: UEFI 2.10, section 5.3.2.
func readGPT(r io.ReaderAt, size, sector, at int64) ([]Partition, error) {
	head := make([]byte, 92)
	if at < 0 || readFull(r, head, at) != nil || string(head[:8]) != "EFI PART" {
		return nil, errNoTable
	}
	le := binary.LittleEndian
	if n := le.Uint32(head[12:]); n < 92 || int64(n) > sector {
		return nil, fmt.Errorf("a header of %d bytes", n)
	} else if n > 92 {
		head = make([]byte, n)
		if err := readFull(r, head, at); err != nil {
			return nil, err
		}
	}
	sum := le.Uint32(head[16:])
	copy(head[16:20], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(head) != sum {
		return nil, errors.New("the header does not match its checksum")
	}
	entries, count, entrySize := le.Uint64(head[72:]), le.Uint32(head[80:]), le.Uint32(head[84:])
	if count > maxEntries || entrySize < 128 || entrySize > maxEntrySize || entries > uint64(size/sector) {
		return nil, fmt.Errorf("%d entries of %d bytes at sector %d", count, entrySize, entries)
	}
	array := make([]byte, count*entrySize)
	if err := readFull(r, array, int64(entries)*sector); err != nil {
		return nil, fmt.Errorf("the entries: %w", err)
	}
	if crc32.ChecksumIEEE(array) != le.Uint32(head[88:]) {
		return nil, errors.New("the entries do not match their checksum")
	}
	var parts []Partition
	for i := range int(count) {
		e := array[i*int(entrySize):][:entrySize]
		if bytes.Count(e[:16], []byte{0}) == 16 {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > last || last >= uint64(size/sector) {
			return nil, fmt.Errorf("partition %d reaches from sector %d to %d, on a disk of %d",
				i+1, first, last, size/sector)
		}
		p := Partition{
			Number: i + 1, Type: guidText(e[:16]), UUID: guidText(e[16:32]), Label: labelText(e[56:128]),
			Offset: int64(first) * sector, Size: int64(last-first+1) * sector,
		}
		if name := gptTypes[p.Type]; name != "" {
			p.Type = name
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// guidText turns a GUID of a disk, whose first three parts are little-endian, into its text.
func guidText(b []byte) string {
	var id uuid.UUID
	copy(id[:], b)
	for _, swap := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		id[swap[0]], id[swap[1]] = id[swap[1]], id[swap[0]]
	}
	return id.String()
}

func labelText(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// readMBR reads the four primary partitions. protective: one of them stands for a GPT.
func readMBR(r io.ReaderAt, size int64) (protective bool, parts []Partition) {
	b := make([]byte, 512)
	if readFull(r, b, 0) != nil || b[510] != 0x55 || b[511] != 0xaa {
		return false, nil
	}
	for i := range 4 {
		e := b[446+16*i:][:16]
		p := Partition{
			Number: i + 1, Type: mbrTypes[e[4]],
			Offset: int64(binary.LittleEndian.Uint32(e[8:])) * 512,
			Size:   int64(binary.LittleEndian.Uint32(e[12:])) * 512,
		}
		switch {
		case e[4] == 0xee:
			return true, nil
		case e[4] == 0 || p.Size == 0:
			continue
		case e[0]&0x7f != 0 || p.Offset == 0 || p.Offset > size-p.Size:
			return false, nil // code that ends in the same two bytes: a boot sector of FAT, say
		case p.Type == "":
			p.Type = fmt.Sprintf("0x%02x", e[4])
		}
		parts = append(parts, p)
	}
	return false, parts
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// magics tell what the bytes at the start of a partition or file are.
var magics = []struct {
	at   int64
	text string
	name string
}{
	{1024, "\xe2\xe1\xf5\xe0", "erofs"}, // Linux, fs/erofs/erofs_fs.h
	{0, "hsqs", "squashfs"},             // fs/squashfs/squashfs_fs.h
	{1080, "\x53\xef", "ext4"},          // fs/ext4/ext4.h; ext2 and ext3 have the same
	{0, "verity\x00\x00", "dm-verity"},  // cryptsetup, lib/verity/verity.c
	{0, "LUKS\xba\xbe", "LUKS"},
	{0, "XFSB", "xfs"},
	{65600, "_BHRfS_M", "btrfs"},
	{4086, "SWAPSPACE2", "swap"},
	{82, "FAT32   ", "vfat"}, {54, "FAT16   ", "vfat"}, {54, "FAT12   ", "vfat"},
	{32769, "CD001", "iso9660"},
}

// fileSystem names what lies in a part of a disk; empty where nothing is known of it.
func fileSystem(r io.ReaderAt, off, size int64) string {
	for _, m := range magics {
		b := make([]byte, len(m.text))
		if m.at+int64(len(b)) <= size && readFull(r, b, off+m.at) == nil && string(b) == m.text {
			return m.name
		}
	}
	return ""
}

// readable are the file systems whose files can be looked at.
func readable(fs string) bool { return fs == "erofs" }

// rootOf picks the partition with the root file system: the one that says so by its type or its label, otherwise the
// first that can be read.
func rootOf(parts []Partition) *Partition {
	var best *Partition
	for i, p := range parts {
		if !readable(p.FileSystem) {
			continue
		}
		if strings.HasPrefix(p.Type, "Linux root (") || strings.EqualFold(p.Label, "root") {
			return &parts[i]
		}
		if best == nil {
			best = &parts[i]
		}
	}
	return best
}
