package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"github.com/belljar/belljar/image/verity"
)

// The root disk: a GPT with the root at 1 MiB, where every partitioning tool would put it, and behind it, where it has
// one, the root's hash tree.
const (
	sectorSize = 512
	partStart  = 1 << 20
	partAlign  = 1 << 20
	gptTail    = 1 << 20 // room for the second table; keeps the disk's size a multiple of 1 MiB
)

// finishDisk puts the partition table around an EROFS image that lies at partStart. The identifiers derive from
// the recipe's version: tools want them, nothing in the guest looks at them.
func finishDisk(out *os.File, size int64) error {
	return writeTable(out, []slot{{"root", gpt.LinuxFilesystem, guid("root"), partStart, roundUp(size)}})
}

// sealDisk puts the partition table around an EROFS image that lies at partStart, and the image's dm-verity hash tree
// into a partition of its own behind it. The root hash that it returns is what the image must be, to the last bit of
// the root's partition. Types and identifiers of both are what the Discoverable Partitions Specification of the UAPI
// group asks for: the identifiers are the two halves of the root hash.
func sealDisk(ctx context.Context, out *os.File, size int64, arch string) (rootHash string, err error) {
	root := slot{"root", RootType(arch), "", partStart, roundUp(size)}
	hashes := slot{"root-verity", RootVerityType(arch), "", root.start + root.size, roundUp(verity.Size(root.size))}
	if err := out.Truncate(hashes.start + hashes.size); err != nil { // the tree covers the end of the partition too
		return "", fmt.Errorf("root disk: %w", err)
	}
	salt := sha256.Sum256([]byte("belljar image " + Version + " salt"))
	tree, err := verity.Write(ctx, io.NewOffsetWriter(out, hashes.start), io.NewSectionReader(out, root.start, root.size),
		root.size, verity.Options{Salt: salt[:], UUID: uuid.MustParse(guid("hash tree"))})
	if err != nil {
		return "", fmt.Errorf("root disk: %w", err)
	}
	first, _ := uuid.FromBytes(tree.Root[:16])
	last, _ := uuid.FromBytes(tree.Root[16:])
	root.guid, hashes.guid = first.String(), last.String()
	return tree.RootHex(), writeTable(out, []slot{root, hashes})
}

// RootType is the partition type of a root for an architecture (x86_64 or i686), by the Discoverable Partitions
// Specification.
func RootType(arch string) gpt.Type {
	if arch == "i686" {
		return gpt.LinuxRootX86
	}
	return gpt.LinuxRootX86_64
}

// RootVerityType is the type of the partition with such a root's hash tree.
func RootVerityType(arch string) gpt.Type {
	if arch == "i686" {
		return "D13C5D3B-B5D1-422A-B29F-9454FDC89D76"
	}
	return "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
}

// slot is a partition to be: where it lies, in bytes, and what it is called.
type slot struct {
	name        string
	kind        gpt.Type
	guid        string
	start, size int64
}

func roundUp(size int64) int64 { return (size + partAlign - 1) / partAlign * partAlign }

// writeTable gives the disk its length and its partition table.
func writeTable(out *os.File, parts []slot) error {
	last := parts[len(parts)-1]
	total := last.start + last.size + gptTail
	if err := out.Truncate(total); err != nil {
		return fmt.Errorf("root disk: %w", err)
	}
	table := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, ProtectiveMBR: true, GUID: guid("disk"),
	}
	for i, p := range parts {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(p.start) / sectorSize, End: uint64(p.start+p.size)/sectorSize - 1,
			Size: uint64(p.size), Type: p.kind, Name: p.name, GUID: p.guid,
		})
	}
	if err := table.Write(out, total); err != nil {
		return fmt.Errorf("root disk: partition table: %w", err)
	}
	return nil // whoever keeps the disk syncs it: the base layer's is gone before a power cut could matter
}

// guid is a fixed identifier (RFC 9562, version 8: vendor-specific) for a part of the recipe.
func guid(what string) string {
	sum := sha256.Sum256([]byte("belljar image " + Version + " " + what))
	id, _ := uuid.FromBytes(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
