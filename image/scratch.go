package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// Scratch makes the build's own disk: an empty ext4 on a sparse file of that size.
func Scratch(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("scratch disk: %w", err)
	}
	if err := makeExt4(f, size); err != nil {
		f.Close()
		os.Remove(path)
		err = diskFault("scratch disk", filepath.Dir(path), err)
		if fault.KindOf(err) == fault.Host {
			return err
		}
		// go-diskfs hands the system's error on as text alone, and what it was asked for is always the same.
		return fault.New(fault.Host, "scratch disk", "%w", err).
			WithRemedy("Look at the disk of %s: it has %s free.", filepath.Dir(path), freeText(filepath.Dir(path)))
	}
	return f.Close()
}

func makeExt4(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	id := uuid.MustParse(guid("scratch"))
	_, err := ext4.Create(file.New(holes{f}, false), size, 0, sectorSize, &ext4.Params{
		UUID:            &id,
		SectorsPerBlock: 8,
		VolumeName:      "scratch",
		Checksum:        true,
		// No journal: nothing on this disk outlives the guest. No room to grow: go-diskfs lays it out for 1 KiB
		// blocks only.
		Features: []ext4.FeatureOpt{
			ext4.WithFeatureHasJournal(false), ext4.WithFeatureReservedGDTBlocksForExpansion(false),
		},
	})
	return err
}

// holes is a file in which zeros become a hole, or stay one: an ext4's empty inode tables are hundreds of megabytes of them.
type holes struct{ *os.File }

// WriteAt writes p, or makes the hole that reads the same (fallocate(2): FALLOC_FL_PUNCH_HOLE).
func (h holes) WriteAt(p []byte, at int64) (int, error) {
	if allZero(p) && unix.Fallocate(int(h.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, int64(len(p))) == nil {
		return len(p), nil
	}
	return h.File.WriteAt(p, at) // also on a file system without holes
}

// allZero says that p is nothing else, and not empty.
func allZero(p []byte) bool {
	for part := range slices.Chunk(p, hole) {
		if !bytes.Equal(part, nothing[:len(part)]) {
			return false
		}
	}
	return len(p) > 0
}
