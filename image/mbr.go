package image

import (
	"fmt"
	"math"
	"slices"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// MBRPartition is one of the four partitions that a master boot record has room for.
type MBRPartition struct {
	Type     mbr.Type
	Offset   int64 // bytes
	Size     int64
	Bootable bool // marked active: what a PC's boot code looks for
}

// WriteMBR writes a master boot record onto a disk of that size: for firmware and tools that know no GPT. id is the
// disk's signature, by which Linux tells its partitions apart (PARTUUID=id-01); the boot code is left as it is.
func WriteMBR(disk backend.WritableFile, size int64, id uint32, parts []MBRPartition) error {
	if err := checkMBR(size, parts); err != nil {
		return fmt.Errorf("MBR: %w", err)
	}
	table := &mbr.Table{LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize}
	for i, p := range parts {
		table.Partitions = append(table.Partitions, &mbr.Partition{
			Index: i + 1, Bootable: p.Bootable, Type: p.Type,
			Start: uint32(p.Offset / sectorSize), Size: uint32(p.Size / sectorSize),
		})
	}
	if err := table.Write(disk, size); err != nil {
		return fmt.Errorf("MBR: %w", err)
	}
	// The library knows the signature when it reads, not when it writes.
	if _, err := disk.WriteAt([]byte{byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}, 440); err != nil {
		return fmt.Errorf("MBR: %w", err)
	}
	return nil
}

func checkMBR(size int64, parts []MBRPartition) error {
	if len(parts) > 4 {
		return fmt.Errorf("%d partitions; there is room for 4", len(parts))
	}
	active := 0
	for i, p := range parts {
		switch {
		case p.Type == mbr.Empty:
			return fmt.Errorf("partition %d: type 0 means that there is none", i+1)
		case p.Offset%sectorSize != 0 || p.Size%sectorSize != 0:
			return fmt.Errorf("partition %d: from %d, %d bytes: not whole sectors", i+1, p.Offset, p.Size)
		case p.Offset < sectorSize || p.Size <= 0 || p.Offset > size-p.Size:
			return fmt.Errorf("partition %d: from %d, %d bytes: not within a disk of %d behind the MBR",
				i+1, p.Offset, p.Size, size)
		case (p.Offset+p.Size)/sectorSize > math.MaxUint32:
			return fmt.Errorf("partition %d ends behind the 2 TiB that an MBR can tell", i+1)
		}
		if p.Bootable {
			active++
		}
	}
	if active > 1 {
		return fmt.Errorf("%d partitions are marked active; one may be", active)
	}
	sorted := slices.Clone(parts)
	slices.SortFunc(sorted, func(a, b MBRPartition) int { return int((a.Offset - b.Offset) / sectorSize) })
	for i := 1; i < len(sorted); i++ {
		if before := sorted[i-1]; before.Offset+before.Size > sorted[i].Offset {
			return fmt.Errorf("partitions at %d and %d overlap", before.Offset, sorted[i].Offset)
		}
	}
	return nil
}
