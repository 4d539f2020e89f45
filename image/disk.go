package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"
)

// The root disk: a GPT with one partition at 1 MiB, where every partitioning tool would put it.
const (
	sectorSize = 512
	partStart  = 1 << 20
	gptTail    = 1 << 20 // room for the second table; keeps the disk's size a multiple of 1 MiB
)

// WrapDisk writes the root disk that holds an EROFS image of that size.
func WrapDisk(ctx context.Context, out *os.File, img io.ReaderAt, size int64) error {
	w := &countWriter{ctx: ctx, w: io.NewOffsetWriter(out, partStart)}
	if _, err := io.CopyBuffer(w, io.NewSectionReader(img, 0, size), make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("root disk: %w", err)
	}
	return finishDisk(out, size)
}

// finishDisk puts the partition table around an EROFS image that lies at partStart. The identifiers derive from
// the image's size and the recipe's version: tools want them, nothing in the guest looks at them.
func finishDisk(out *os.File, size int64) error {
	part := (size + partStart - 1) / partStart * partStart
	total := partStart + part + gptTail
	if err := out.Truncate(total); err != nil {
		return fmt.Errorf("root disk: %w", err)
	}
	table := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, ProtectiveMBR: true,
		GUID: guid("disk"),
		Partitions: []*gpt.Partition{{
			Index: 1,
			Start: partStart / sectorSize,
			End:   uint64(partStart+part)/sectorSize - 1,
			Size:  uint64(part),
			Type:  gpt.LinuxFilesystem,
			Name:  "root",
			GUID:  guid("root"),
		}},
	}
	if err := table.Write(out, total); err != nil {
		return fmt.Errorf("root disk: partition table: %w", err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("root disk: %w", err)
	}
	return nil
}

// guid is a fixed identifier (RFC 9562, version 8: vendor-specific) for a part of the recipe.
func guid(what string) string {
	sum := sha256.Sum256([]byte("belljar image " + Version + " " + what))
	id, _ := uuid.FromBytes(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
