package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/belljar/belljar/fault"
)

// Image is an image that is open to be looked at: a disk, a bare file system, or a tar archive of one. Only names and
// metadata are held in memory; contents are read where they lie.
type Image struct {
	Name       string // as the caller calls it
	Format     string // "disk (GPT)", "disk (MBR)", "EROFS", "tar"
	Packed     string // how the file is compressed; empty: it is not
	Size       int64  // of the file, as it lies there
	Partitions []Partition
	Notes      []string // what is wrong with it, though it could be read

	tree    *tree       // nil where no file system could be read
	noTree  error       // why not
	at      io.ReaderAt // the image itself, unpacked
	links   map[*node][]string
	dpkg    *dpkg // read at first use
	release func() error
}

// maxUnpacked bounds what a compressed image may grow to on the host's disk.
const maxUnpacked = 64 << 30

// Open reads the metadata of an image that lies in r. A compressed one is unpacked to an unlinked file in tempDir
// ("" is the system's) first. Close frees that; r stays the caller's, and has to stay open until then.
func Open(ctx context.Context, name string, r io.ReaderAt, size int64, tempDir string) (*Image, error) {
	m := &Image{Name: name, Size: size, release: func() error { return nil }}
	err := m.open(ctx, r, size, tempDir)
	if err != nil {
		m.Close()
		if ctx.Err() != nil || fault.KindOf(err) != fault.Unknown {
			return nil, err
		}
		e := fault.New(fault.Input, "read image "+name, "%w", err)
		if _, ok := errors.AsType[noImage](err); !ok {
			return nil, e.WithRemedy("The file is cut off or was changed: copy it anew, or make the image again.")
		}
		return nil, e.WithRemedy("Images that can be read: a disk with a GPT or an MBR, a bare EROFS, a tar archive; " +
			"each as it is or packed by gzip, xz, zstd or bzip2.")
	}
	return m, nil
}

// noImage says why a file is no image at all. Other errors say what is wrong with one.
type noImage string

func (n noImage) Error() string { return string(n) }

// Close frees what Open made.
func (m *Image) Close() error { return m.release() }

func (m *Image) open(ctx context.Context, r io.ReaderAt, size int64, tempDir string) error {
	m.at = r
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.New(fault.Host, "read image "+m.Name, "%w", err)
	}
	head = head[:n]
	if n == 0 {
		return noImage("the file is empty")
	}
	if m.Packed == "" {
		for _, p := range packings {
			if bytes.HasPrefix(head, []byte(p.magic)) {
				m.Packed = p.name
				return m.unpack(ctx, r, size, tempDir)
			}
		}
	}
	if isTar(head) {
		m.Format = "tar"
		if m.tree, err = openTar(ctx, r, size, tempDir, m); err != nil {
			return err
		}
		m.group()
		return nil
	}
	switch fs := fileSystem(r, 0, size); {
	case readable(fs):
		m.Format = "EROFS"
		if m.tree, err = readErofs(r, "image"); err != nil {
			return damaged(err)
		}
		m.group()
		return nil
	case fs != "" && fs != "vfat" && fs != "iso9660": // those two can begin a disk with partitions
		return noImage("it is a bare " + fs + " file system, which is not read here")
	}
	return m.openDisk(r, size, head)
}

func (m *Image) openDisk(r io.ReaderAt, size int64, head []byte) error {
	table, parts, note, err := readPartitions(r, size)
	if errors.Is(err, errNoTable) {
		for magic, what := range notImages {
			if bytes.HasPrefix(head, []byte(magic)) {
				return noImage("it is " + what)
			}
		}
		return noImage("it is no image: it has no partition table, no file system that is known, and is no tar archive")
	}
	if err != nil {
		return err
	}
	m.Format = "disk (" + table + ")"
	if note != "" {
		m.Notes = append(m.Notes, note)
	}
	for i := range parts {
		parts[i].FileSystem = fileSystem(r, parts[i].Offset, parts[i].Size)
	}
	m.Partitions = parts
	root := rootOf(parts)
	if root == nil {
		m.noTree = fault.New(fault.Input, "read image "+m.Name, "none of its %d partitions holds an EROFS", len(parts)).
			WithRemedy("Only EROFS is read; 'belljar image inspect' shows what the partitions are.")
		return nil
	}
	if m.tree, err = readErofs(io.NewSectionReader(r, root.Offset, root.Size), "image"); err != nil {
		return damaged(fmt.Errorf("partition %d: %w", root.Number, err))
	}
	m.group()
	return nil
}

func damaged(err error) error { return fmt.Errorf("its file system is damaged: %w", err) }

// notImages are files that people are likely to take for images.
var notImages = map[string]string{
	"QFI\xfb":          "a qcow2, which is not read here; 'qemu-img convert -O raw' makes a disk of it",
	"KDMV":             "a VMDK, which is not read here; 'qemu-img convert -O raw' makes a disk of it",
	"!<arch>\n":        "a .deb or another ar archive",
	"070701":           "a cpio archive (an initramfs?)",
	"070702":           "a cpio archive (an initramfs?)",
	"\x7fELF":          "a program",
	"PK\x03\x04":       "a zip archive",
	"\xd0\x0d\xfe\xed": "a device tree",
}

var packings = []struct{ magic, name string }{
	{"\x1f\x8b", "gzip"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"BZh", "bzip2"},
}

// unpack writes the image, decompressed, to an unlinked file and opens that.
func (m *Image) unpack(ctx context.Context, r io.ReaderAt, size int64, tempDir string) error {
	z, err := decompress(io.NewSectionReader(r, 0, size))
	if err != nil {
		return fmt.Errorf("%s: %w", m.Packed, err)
	}
	defer z.Close()
	sp, err := newSpool(tempDir)
	if err != nil {
		return err
	}
	m.release = sp.Close
	_, n, err := sp.addAll(&ctxReader{ctx, z}, maxUnpacked)
	if err != nil {
		return fmt.Errorf("%s, after %d bytes: %w", m.Packed, n, err)
	}
	return m.open(ctx, io.NewSectionReader(sp.f, 0, n), n, tempDir)
}

// ctxReader stops reading when the context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// group finds the files that have several names: hard links.
func (m *Image) group() {
	m.links = map[*node][]string{}
	for name, n := range m.tree.all() {
		if !n.isDir() {
			m.links[n] = append(m.links[n], name)
		}
	}
	maps.DeleteFunc(m.links, func(_ *node, names []string) bool { return len(names) < 2 })
	for _, names := range m.links {
		slices.Sort(names)
	}
}

// files is the tree, or the reason why there is none.
func (m *Image) files() (*tree, error) {
	if m.tree == nil {
		return nil, m.noTree
	}
	return m.tree, nil
}
