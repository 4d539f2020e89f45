// Package initramfs knows the guest's first file system: the cpio archive that the kernel unpacks before any disk
// is there, the kernel modules that must be in it and the order in which they load, what its init is told on the kernel's
// command line (guest-agent/init does the work), and the shell script that is process 1 of the real root.
//
// It refuses to know how the disks are made and who logs in.
package initramfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// The newc format, from the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a 110-byte
// header of ASCII hex, the name with its NUL, the data; name and data are each padded to four bytes.
const (
	magic      = "070701"
	headerSize = 110
	trailer    = "TRAILER!!!"

	maxName = 4096    // PATH_MAX, with the NUL: the kernel's own limit (init/initramfs.c)
	maxData = 1 << 31 // of one file; nothing in an initramfs comes near it
)

// The type bits of Header.Mode, as in stat(2).
const (
	TypeMask    = 0o170000
	TypeDir     = 0o040000
	TypeFile    = 0o100000
	TypeLink    = 0o120000
	TypeCharDev = 0o020000
)

// Header is one entry of an archive. Inode numbers and link counts are the writer's business: entries are counted,
// and there are no hard links.
type Header struct {
	Name         string // relative, slash-separated, no '.' or '..'
	Mode         uint32 // type and permission bits, as in stat(2)
	UID, GID     uint32
	MTime        uint32 // seconds since 1970
	Size         int64  // of a file, or the length of a symbolic link's target (the data is the target)
	Major, Minor uint32 // of a device
}

// Writer writes one archive, entry by entry.
type Writer struct {
	w      io.Writer
	off    int64 // bytes written
	ino    uint32
	left   int64 // bytes that the current entry still lacks
	name   string
	closed bool
	err    error
}

// NewWriter starts an archive on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader begins an entry. Its data, if Size says that there is any, must follow by Write.
func (w *Writer) WriteHeader(h Header) error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return errors.New("cpio: write to a closed archive")
	case w.left > 0:
		return fmt.Errorf("cpio: %s lacks %d bytes", w.name, w.left)
	}
	if err := checkName(h.Name); err != nil {
		return err
	}
	if h.Size < 0 || h.Size > maxData {
		return fmt.Errorf("cpio: %s: size %d is out of range", h.Name, h.Size)
	}
	if t := h.Mode & TypeMask; h.Size > 0 && t != TypeFile && t != TypeLink {
		return fmt.Errorf("cpio: %s: only files and symbolic links have data", h.Name)
	}
	w.ino++
	w.header(h, w.ino)
	w.left, w.name = h.Size, h.Name
	if w.left == 0 {
		w.pad(4)
	}
	return w.err
}

// Write adds data to the current entry.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		return 0, fmt.Errorf("cpio: %s has more data than its header says", w.name)
	}
	w.raw(p)
	w.left -= int64(len(p))
	if w.left == 0 {
		w.pad(4)
	}
	return len(p), w.err
}

// Close writes the trailer and pads to 512 bytes, so that another archive can follow. It does not close the
// underlying writer.
func (w *Writer) Close() error {
	if w.err == nil && w.left > 0 {
		w.err = fmt.Errorf("cpio: %s lacks %d bytes", w.name, w.left)
	}
	if w.closed || w.err != nil {
		return w.err
	}
	w.closed = true
	w.header(Header{Name: trailer}, 0)
	w.pad(512)
	return w.err
}

// header writes the header and the name. The order of the fields is the format's; the link count is 1 (2 for a
// folder) because the kernel takes anything greater for a hard link of a file.
func (w *Writer) header(h Header, ino uint32) {
	nlink := uint32(1)
	if h.Mode&TypeMask == TypeDir {
		nlink = 2
	}
	fields := [...]uint32{
		ino, h.Mode, h.UID, h.GID, nlink, h.MTime, uint32(h.Size),
		0, 0, h.Major, h.Minor, uint32(len(h.Name) + 1), 0,
	}
	var b strings.Builder
	b.WriteString(magic)
	for _, f := range fields {
		fmt.Fprintf(&b, "%08X", f)
	}
	b.WriteString(h.Name)
	b.WriteByte(0)
	w.raw([]byte(b.String()))
	w.pad(4)
}

func (w *Writer) raw(p []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(p)
	w.off += int64(n)
	w.err = err
}

func (w *Writer) pad(to int64) {
	if rest := w.off % to; rest != 0 {
		w.raw(make([]byte, to-rest))
	}
}

// checkName refuses names that would land elsewhere than they say.
func checkName(name string) error {
	if name == "" || len(name) >= maxName || strings.ContainsRune(name, 0) || name == trailer {
		return fmt.Errorf("cpio: %q cannot be a name", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("cpio: name %q is not a plain relative path", name)
		}
	}
	return nil
}
