package debian

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/belljar/belljar/fault"
)

// Bounds on what a package may declare. They lie far above what Debian ships, and keep a crafted package from eating
// the host.
const (
	maxFormatSize  = 64
	maxControlSize = 64 << 20 // of control.tar, packed and unpacked, and of all its members together
	maxDataSize    = 4 << 30  // of data.tar, packed
	maxUnpacked    = 16 << 30 // of data.tar, unpacked; see also unpackedBound
)

// unpackedBound is how much a data.tar of that packed size may unpack to. Text and debug information shrink to a
// fiftieth at best; a stream of zeros, to a thousandth (deflate) and far less (xz, zstd).
func unpackedBound(packed int64) int64 { return min(maxUnpacked, 256<<20+250*packed) }

// Deb reads a Debian binary package (deb(5), format 2.x) as a stream: the control members are read when it is opened,
// the data members come one by one from Next, their contents from Read.
type Deb struct {
	name    string
	src     *source
	ar      *arReader
	control map[string][]byte
	modes   map[string]fs.FileMode

	member string // the data member's name, e.g. data.tar.xz
	data   io.ReadCloser
	limit  *bounded // between data and tar
	bound  int64    // of limit at the start
	tar    *tar.Reader
	seen   map[string]byte // the entries that came, with their types
	entry  string          // the entry that Read reads
	done   error           // sticky: io.EOF or the first failure
}

// OpenDeb reads r up to the start of the data members. Where r has a method Name, as *os.File has, errors carry it.
// Close frees the decompressor's buffers; it does not close r.
func OpenDeb(r io.Reader) (*Deb, error) {
	name := "package"
	if n, ok := r.(interface{ Name() string }); ok {
		name = n.Name()
	}
	return OpenDebNamed(name, r)
}

// OpenDebNamed is OpenDeb for a reader without a name: errors carry the one given.
func OpenDebNamed(name string, r io.Reader) (*Deb, error) {
	d := &Deb{
		name: name, src: &source{r: bufio.NewReaderSize(r, 64<<10)},
		control: map[string][]byte{}, modes: map[string]fs.FileMode{}, seen: map[string]byte{},
	}
	if err := d.open(); err != nil {
		d.Close()
		return nil, d.fault(err)
	}
	return d, nil
}

// Control holds the control members by name: control, md5sums, conffiles, postinst, triggers, …
// The caller must not change it.
func (d *Deb) Control() map[string][]byte { return d.control }

// ControlMode is the mode of a control member, as packed: maintainer scripts are executable.
func (d *Deb) ControlMode(name string) fs.FileMode { return d.modes[name] }

// Next moves to the next data member. Its Name is a clean path relative to the root ("usr/bin/cc", "." for the root
// itself) that climbs nowhere; so is the Linkname of a hard link, which names a file that came before it. A symbolic
// link's target is left as it is, for that is the content of the link: whoever unpacks must not follow it.
// Only regular files, folders, links, devices and FIFOs come. At the end, with all checks of the packed data passed,
// the error is io.EOF.
func (d *Deb) Next() (*tar.Header, error) {
	if d.done != nil {
		return nil, d.done
	}
	h, err := d.next()
	switch {
	case errors.Is(err, io.EOF):
		d.done = io.EOF
	case err != nil:
		d.done = d.fault(fmt.Errorf("%s: %w", d.member, err))
	}
	if d.done != nil {
		d.Close()
		return nil, d.done
	}
	return h, nil
}

// Read reads the content of the current data member.
func (d *Deb) Read(p []byte) (int, error) {
	if d.done != nil {
		return 0, d.done
	}
	n, err := d.tar.Read(p)
	if err != nil && err != io.EOF {
		d.done = d.fault(fmt.Errorf("%s: %s: %w", d.member, d.entry, noEOF(err)))
		err = d.done
	}
	return n, err
}

// Close frees what the decompressor holds. It may be called at any time and more than once.
func (d *Deb) Close() error {
	if d.done == nil {
		d.done = fs.ErrClosed
	}
	if d.data == nil {
		return nil
	}
	data := d.data
	d.data = nil
	return data.Close()
}

// open reads debian-binary and control.tar, and stops at the head of data.tar. deb(5): members come in this order;
// others whose names begin with '_' may stand before or between the last two and are skipped.
func (d *Deb) open() error {
	a, err := newArReader(d.src)
	if err != nil {
		return err
	}
	d.ar = a
	if err := d.readFormat(); err != nil {
		return err
	}
	m, compression, err := d.nextMember("control.tar", controlCompressions, maxControlSize)
	if err != nil {
		return err
	}
	if err := d.readControl(m, compression); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	m, compression, err = d.nextMember("data.tar", dataCompressions, maxDataSize)
	if err != nil {
		return err
	}
	d.member = m.Name
	data, err := decompress(a, compression)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, noEOF(err))
	}
	d.data = data
	d.bound = unpackedBound(m.Size)
	d.limit = &bounded{r: data, left: d.bound}
	d.tar = tar.NewReader(d.limit)
	return nil
}

func (d *Deb) readFormat() error {
	m, err := d.ar.next()
	if err != nil {
		return fmt.Errorf("first member: %w", noEOF(err))
	}
	if m.Name != "debian-binary" {
		return fmt.Errorf("its first member is %q, want debian-binary", m.Name)
	}
	if m.Size > maxFormatSize {
		return fmt.Errorf("debian-binary declares %d bytes, want at most %d", m.Size, maxFormatSize)
	}
	text, err := io.ReadAll(d.ar)
	if err != nil {
		return fmt.Errorf("debian-binary: %w", noEOF(err))
	}
	version, _, ok := strings.Cut(string(text), "\n")
	if !ok || !strings.HasPrefix(version, "2.") || strings.Trim(version[2:], "0123456789") != "" || len(version) < 3 {
		return fmt.Errorf("debian-binary says %q, want the format version 2.0", text)
	}
	return nil
}

// nextMember moves to the member of that stem, and returns it with its compression: the rest of its name.
func (d *Deb) nextMember(stem string, known []string, bound int64) (arMember, string, error) {
	for {
		m, err := d.ar.next()
		switch {
		case errors.Is(err, io.EOF):
			return m, "", fmt.Errorf("it ends before %s: %w", stem, io.ErrUnexpectedEOF)
		case err != nil:
			return m, "", fmt.Errorf("before %s: %w", stem, err)
		case strings.HasPrefix(m.Name, "_"):
			continue
		case !strings.HasPrefix(m.Name, stem):
			return m, "", fmt.Errorf("it has the member %q, want %s", m.Name, stem)
		case m.Size > bound:
			return m, "", fmt.Errorf("%s declares %d bytes, more than the bound of %d", m.Name, m.Size, bound)
		}
		compression := strings.TrimPrefix(m.Name[len(stem):], ".")
		switch {
		case slices.Contains(known, compression) && (m.Size > 0 || compression == ""):
			return m, compression, nil
		case slices.Contains(known, compression):
			return m, "", fmt.Errorf("%s has no byte: %w", m.Name, io.ErrUnexpectedEOF)
		}
		return m, "", fmt.Errorf("%s has an unknown compression, want %s%s", m.Name, stem, strings.Join(known, ", ."))
	}
}

func (d *Deb) readControl(m arMember, compression string) error {
	z, err := decompress(d.ar, compression)
	if err != nil {
		return noEOF(err)
	}
	defer z.Close()
	limit := &bounded{r: z, left: maxControlSize}
	t := tar.NewReader(limit)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return noEOF(err)
		}
		name, err := cleanPath(h.Name)
		if err != nil {
			return err
		}
		switch {
		case h.Typeflag == tar.TypeDir && name == ".":
			continue
		case h.Typeflag != tar.TypeReg || strings.Contains(name, "/") || len(h.PAXRecords) > 0:
			return fmt.Errorf("%s is %s, want plain files without folders", name, typeName(h))
		case d.control[name] != nil:
			return fmt.Errorf("%s comes twice", name)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("%s: %w", name, noEOF(err))
		}
		d.control[name] = data
		d.modes[name] = h.FileInfo().Mode().Perm()
	}
	if d.control["control"] == nil {
		if _, err := io.Copy(io.Discard, d.ar); err != nil { // a zstd stream of no byte at all is a good one
			return noEOF(err)
		}
		return errors.New("it has no member control")
	}
	return drain(limit)
}

func (d *Deb) next() (*tar.Header, error) {
	h, err := d.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, d.finish()
	}
	if err != nil {
		return nil, fmt.Errorf("after %s: %w", orStart(d.entry), noEOF(err))
	}
	name, err := cleanPath(h.Name)
	if err != nil {
		return nil, err
	}
	d.entry, h.Name = name, name
	if err := d.checkEntry(h); err != nil {
		return nil, err
	}
	if len(h.PAXRecords) > 0 { // deb(5) allows v7, ustar and GNU archives; a pax record could rename or make a hole.
		return nil, fmt.Errorf("%s has pax records, want a ustar or GNU archive", name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.ContainsAny(h.Linkname, "\x00\n") || len(h.Linkname) >= maxPathLength {
			return nil, fmt.Errorf("%s is a symbolic link to %.80q, want a path", name, h.Linkname)
		}
	case tar.TypeLink:
		target, err := cleanPath(h.Linkname)
		if err != nil {
			return nil, fmt.Errorf("%s is a hard link: %w", name, err)
		}
		if d.seen[target] != tar.TypeReg {
			return nil, fmt.Errorf("%s is a hard link to %s, want a regular file that came before it", name, target)
		}
		h.Linkname = target
	default:
		return nil, fmt.Errorf("%s is %s, want a file, folder, link, device or FIFO", name, typeName(h))
	}
	if name == "." && h.Typeflag != tar.TypeDir {
		return nil, fmt.Errorf("the root is %s, want a folder", typeName(h))
	}
	d.seen[name] = h.Typeflag
	if h.Typeflag == tar.TypeLink {
		d.seen[name] = tar.TypeReg // a link to a link is a link to the file
	}
	return h, nil
}

// finish reads what follows the last tar block, so that the compressor's checksum is checked and a cut is seen.
func (d *Deb) finish() error {
	if err := drain(d.data); err != nil {
		return fmt.Errorf("after the last file: %w", err)
	}
	if _, err := io.Copy(io.Discard, d.ar); err != nil {
		return noEOF(err)
	}
	return io.EOF
}

// fault classifies: a failure of the source itself stays what it is, all else is the package's.
func (d *Deb) fault(err error) error {
	if d.src.err != nil {
		return fmt.Errorf("read package %s: %w", d.name, d.src.err)
	}
	switch {
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded),
		errors.Is(err, zstd.ErrDecoderSizeExceeded):
		err = fmt.Errorf("%w: to unpack it takes more memory than the bound of %d MiB (xz) or %d MiB (zstd)",
			err, maxXZDictionary>>20, maxZstdWindow>>20)
	case errors.Is(err, xz.ErrBuf), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: the file is cut off or damaged", err)
	}
	return fault.New(fault.Input, "read package "+d.name, "%w", err).
		WithRemedy("Get the package again; its SHA-256 must be the one that the archive's index names. Where it is, no " +
			"copy will be better: leave the package out of the spec, or lock another version of it.")
}
