package image

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/verity"
)

// BootDisk is a disk that boots by itself. It is put together as it is read: the root and its hash tree lie where the
// image has them, only the partition table and the EFI system partition are new.
type BootDisk struct {
	Size     int64
	RootHash string // of the root's hash tree; empty where there is none

	spans []span // sorted; what lies between them reads as zeros
	temps []*os.File
}

type span struct {
	off, size int64
	r         io.ReaderAt
}

// The partitions' labels, by which the kernel's command line names the root.
const (
	rootLabel   = "root"
	verityLabel = "root-verity"
	espLabel    = "esp"
)

// BootDisk makes a disk of the image that boots by itself under UEFI. Of an image that is no disk with a root to copy,
// one is made in tempDir first. Close removes what lies there.
func (m *Image) BootDisk(ctx context.Context, b *Boot, tempDir string, o ExportOptions) (_ *BootDisk, err error) {
	d := &BootDisk{}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	src, slots, err := m.rootSlots(ctx, d, b.Arch, tempDir, o)
	if err != nil {
		return nil, err
	}
	d.RootHash = rootHash(slots)
	boot := *b
	boot.Cmdline = strings.TrimSpace(b.Cmdline + " " + b.FindRoot(rootLabel, d.RootHash))
	esp, err := d.temp(tempDir)
	if err != nil {
		return nil, err
	}
	size, err := writeESP(ctx, esp, &boot, o.Clock)
	if err != nil {
		return nil, err
	}
	for i := range slots {
		d.spans = append(d.spans, span{slots[i].start, slots[i].size, io.NewSectionReader(src, slots[i].start, slots[i].size)})
	}
	last := slots[len(slots)-1]
	slots = append(slots, slot{espLabel, gpt.EFISystemPartition, guid("esp"), last.start + last.size, roundUp(size)})
	d.spans = append(d.spans, span{slots[len(slots)-1].start, size, esp})
	return d, d.partition(tempDir, slots)
}

// partition makes the table, at both ends of the disk.
func (d *BootDisk) partition(tempDir string, slots []slot) error {
	table, err := d.temp(tempDir)
	if err != nil {
		return err
	}
	if err := writeTable(table, slots); err != nil {
		return err
	}
	if d.Size, err = table.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	d.spans = append(d.spans, span{0, partStart, table},
		span{d.Size - gptTail, gptTail, io.NewSectionReader(table, d.Size-gptTail, gptTail)})
	slices.SortFunc(d.spans, func(a, b span) int { return int(a.off/sectorSize - b.off/sectorSize) })
	for i := 1; i < len(d.spans); i++ {
		if before := d.spans[i-1]; before.off+before.size > d.spans[i].off {
			return fmt.Errorf("the disk's parts at %d and %d overlap", before.off, d.spans[i].off)
		}
	}
	return nil
}

// rootSlots finds the root and its hash tree in the image, or makes a disk that has them.
func (m *Image) rootSlots(ctx context.Context, d *BootDisk, arch, tempDir string, o ExportOptions,
) (io.ReaderAt, []slot, error) {
	if slots := m.ownSlots(arch); slots != nil {
		return m.at, slots, nil
	}
	t, err := m.files()
	if err != nil {
		return nil, nil, err
	}
	f, err := d.temp(tempDir)
	if err != nil {
		return nil, nil, err
	}
	size, err := writeErofs(ctx, io.NewOffsetWriter(f, partStart), t, o.Clock)
	if err != nil {
		return nil, nil, err
	}
	if _, err := sealDisk(ctx, f, size, arch); err != nil {
		return nil, nil, err
	}
	length, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, nil, err
	}
	made := &Image{at: f}
	if err := made.openDisk(f, length, nil); err != nil {
		return nil, nil, err
	}
	return f, made.ownSlots(arch), nil
}

// ownSlots are the root and its hash tree, as Belljar's disks have them: from 1 MiB on, one behind the other.
func (m *Image) ownSlots(arch string) []slot {
	var slots []slot
	next := int64(partStart)
	for _, p := range m.Partitions {
		kind := gpt.LinuxFilesystem
		switch {
		case p.Label == rootLabel && p.FileSystem == "erofs" && len(slots) == 0:
			if strings.HasPrefix(p.Type, "Linux root (") {
				kind = RootType(arch)
			}
		case p.Label == verityLabel && p.FileSystem == "dm-verity" && len(slots) == 1:
			kind = RootVerityType(arch)
		default:
			continue
		}
		if p.Offset != next || p.Size%partAlign != 0 {
			return nil
		}
		next += p.Size
		slots = append(slots, slot{p.Label, kind, p.UUID, p.Offset, p.Size})
	}
	return slots
}

// rootHash is what the Discoverable Partitions Specification makes the identifiers of: the first half is the root's,
// the second that of its hash tree. Without a tree there is none.
func rootHash(slots []slot) string {
	if len(slots) < 2 {
		return ""
	}
	return strings.ReplaceAll(slots[0].guid+slots[1].guid, "-", "")
}

// temp makes a file that has no name.
func (d *BootDisk) temp(dir string) (*os.File, error) {
	f, err := atomicfile.Unnamed(dir)
	if err != nil {
		return nil, fault.New(fault.Host, "make disk", "%w", err)
	}
	d.temps = append(d.temps, f)
	return f, nil
}

// Close frees what the disk was put together from. The image stays the caller's.
func (d *BootDisk) Close() error {
	var err error
	for _, f := range d.temps {
		err = errors.Join(err, f.Close())
	}
	return err
}

// ReadAt reads the disk. It may be called by several goroutines.
func (d *BootDisk) ReadAt(p []byte, off int64) (int, error) {
	want := len(p)
	if off >= d.Size {
		return 0, io.EOF
	}
	p = p[:min(int64(want), d.Size-off)]
	clear(p)
	for _, s := range d.spans {
		from, to := max(off, s.off), min(off+int64(len(p)), s.off+s.size)
		if from >= to {
			continue
		}
		if _, err := io.ReadFull(io.NewSectionReader(s.r, from-s.off, to-from), p[from-off:to-off]); err != nil {
			return 0, fmt.Errorf("disk, at %d: %w", from, err)
		}
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// hole is the least run of zeros that is left out of a file.
const hole = 64 << 10

var nothing [hole]byte

// WriteSparse writes the disk to an empty file, in which zeros take no room.
func (d *BootDisk) WriteSparse(ctx context.Context, out *os.File, o ExportOptions) error {
	if err := out.Truncate(d.Size); err != nil {
		return err
	}
	b := make([]byte, 1<<20)
	for off := int64(0); off < d.Size; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := d.ReadAt(b, off)
		if n == 0 && err != nil {
			return err
		}
		for part := range slices.Chunk(b[:n], hole) {
			if !allZero(part) {
				if _, err := out.WriteAt(part, off); err != nil {
					return err
				}
			}
			off += int64(len(part))
		}
		if o.Progress != nil {
			o.Progress(off, d.Size)
		}
	}
	return nil
}

// CheckRoot holds the root of a disk of Belljar's against its root hash. Images without one pass.
func (m *Image) CheckRoot(ctx context.Context) error {
	slots := m.ownSlots("")
	if len(slots) < 2 {
		return nil
	}
	root, hashes := slots[0], slots[1]
	head := make([]byte, verity.BlockSize)
	if _, err := m.at.ReadAt(head, hashes.start); err != nil {
		return fmt.Errorf("hash tree: %w", err)
	}
	// struct verity_sb of veritysetup: the length of the salt, then 6 bytes of nothing, then the salt.
	salt := head[88:][:min(int(binary.LittleEndian.Uint16(head[80:])), 256)]
	tree, err := verity.Write(ctx, nowhere{}, io.NewSectionReader(m.at, root.start, root.size), root.size,
		verity.Options{Salt: salt})
	if err != nil {
		return fmt.Errorf("check of the root: %w", err)
	}
	if tree.RootHex() != rootHash(slots) {
		return fault.New(fault.Input, "image damaged", "the root of %s is not what it was: its root hash is %s, not %s",
			m.Name, tree.RootHex(), rootHash(slots)).
			WithRemedy("Copy the file anew, or make the image again.")
	}
	return nil
}

// nowhere takes a hash tree of which nothing but the root is wanted.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Newest is the youngest date of any file: a date for what is made of the image, from the image alone.
func (m *Image) Newest() time.Time {
	newest := int64(0)
	if m.tree != nil {
		for _, n := range m.tree.all() {
			newest = max(newest, n.mtime)
		}
	}
	return time.Unix(newest, 0).UTC()
}

// OSName is what os-release(5) calls the system.
func (m *Image) OSName() string {
	fields := m.osRelease()
	if name := fields["PRETTY_NAME"]; name != "" {
		return name
	}
	return "Linux"
}
