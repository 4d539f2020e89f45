package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/belljar/belljar/fault"
)

// Boot is what a disk needs to boot by itself under UEFI, put into an EFI system partition: systemd-boot, and what it
// loads by the Boot Loader Specification of the UAPI group.
type Boot struct {
	Arch      string // x86_64 or i686
	Title     string // in the menu
	Cmdline   string // the kernel's; what FindRoot says is added
	Kernel    BootFile
	Initramfs BootFile
	Loader    BootFile // systemd-boot for this architecture; FindLoader finds it in an image

	// FindRoot tells the initramfs which partition is the root, and, where it has a hash tree, its root hash.
	FindRoot func(label, rootHash string) string
}

// BootFile is a file for the EFI system partition.
type BootFile struct {
	Size int64
	Open func() (io.ReadCloser, error)
}

// loaders are, by architecture, where UEFI looks for what it boots from a disk that it knows nothing of (UEFI 2.10,
// section 3.5.1.1), and systemd-boot's name in Debian's package systemd-boot-efi.
var loaders = map[string]struct{ efi, file string }{
	"x86_64": {"BOOTX64.EFI", "usr/lib/systemd/boot/efi/systemd-bootx64.efi"},
	"i686":   {"BOOTIA32.EFI", "usr/lib/systemd/boot/efi/systemd-bootia32.efi"},
}

// FindLoader finds systemd-boot in the image itself: it is one of the guest's packages.
func (m *Image) FindLoader(arch string) (BootFile, error) {
	where := "/" + loaders[arch].file
	_, n, err := m.find(where, true)
	if err != nil || n.mode&typeMask != typeFile {
		return BootFile{}, fault.New(fault.Input, "image "+m.Name, "it has no boot loader: %s is missing", where).
			WithRemedy("Add systemd-boot-efi to the guest's packages and run 'belljar lock' and 'belljar image build'; " +
				"the formats squashfs and tar need no boot loader.")
	}
	return BootFile{Size: n.size, Open: func() (io.ReadCloser, error) { return n.open(), nil }}, nil
}

// Sizes of a FAT volume. UEFI wants FAT32, which has at least 65525 clusters; the smallest are 512 bytes.
// What is not used takes no room in the file.
const (
	fatLeast = 40 << 20
	fatSpare = 4 << 20 // for the tables, and for what somebody wants to add
	fatAlign = 1 << 20
)

// textFile is a file of that text.
func textFile(s string) *BootFile {
	return &BootFile{int64(len(s)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
}

// espTree are the files of the partition, each folder before what is in it.
func (b *Boot) espTree() []fatEntry {
	entry := "title " + b.Title + "\nlinux /belljar/vmlinuz\ninitrd /belljar/initrd\noptions " + b.Cmdline + "\n"
	return []fatEntry{
		{"/EFI", nil},
		{"/EFI/BOOT", nil},
		{"/EFI/BOOT/" + loaders[b.Arch].efi, &b.Loader},
		{"/belljar", nil},
		{"/belljar/initrd", &b.Initramfs},
		{"/belljar/vmlinuz", &b.Kernel},
		{"/loader", nil},
		{"/loader/entries", nil},
		{"/loader/entries/belljar.conf", textFile(entry)},
		// No menu, unless a key is held while it starts; systemd-boot's own loader.conf(5).
		{"/loader/loader.conf", textFile("default belljar.conf\ntimeout 0\nconsole-mode keep\n")},
	}
}

// writeESP makes the EFI system partition in an empty file and returns its size.
func writeESP(ctx context.Context, out *os.File, b *Boot, clock time.Time) (int64, error) {
	size, err := writeFAT(ctx, out, b.espTree(), clock)
	if err != nil {
		return 0, fmt.Errorf("EFI system partition: %w", err)
	}
	return size, nil
}

type fatEntry struct {
	name string
	file *BootFile // nil: a folder
}

// writeFAT makes a FAT32 volume of the files in an empty file and returns its size.
func writeFAT(ctx context.Context, out *os.File, tree []fatEntry, clock time.Time) (int64, error) {
	size := int64(fatSpare)
	for _, e := range tree {
		if e.file != nil {
			size += e.file.Size
		}
	}
	size = max(fatLeast, (size+fatAlign-1)/fatAlign*fatAlign)
	if err := out.Truncate(size); err != nil {
		return 0, err
	}
	fs, err := fat32.Create(file.New(out, false), size, 0, sectorSize, "BELLJAR", true)
	if err != nil {
		return 0, err
	}
	for _, e := range tree {
		if e.file == nil {
			err = fs.Mkdir(e.name)
		} else {
			err = copyToFAT(ctx, fs, e.name, e.file)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return size, settleFAT(out, clock)
}

func copyToFAT(ctx context.Context, fs *fat32.FileSystem, name string, f *BootFile) (err error) {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	// In large pieces: the file system's tables are written anew with each.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{&ctxReader{ctx, r}}, make([]byte, 4<<20))
	if err == nil && n != f.Size {
		err = fault.New(fault.Input, "", "it has %d bytes, not %d", n, f.Size)
	}
	return err
}
