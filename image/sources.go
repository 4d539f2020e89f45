package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
)

// Tree is one folder of the input disk: a source of the build, or what a stage before it made.
type Tree struct {
	Folder string // above it: sources if empty
	Name   string
	Parts  []Part // laid over one another, in order
}

// Part is a tarball (gz, xz, bz2, zst or plain) or any other file.
type Part struct {
	File  string // its name; what a file that is no tarball is called on the disk
	Into  string // folder within the tree; "" is its root
	Keep  bool   // keep the leading folder even if it is the only one
	Clear string // folder within the tree that the part replaces as a whole
	Plain bool   // keep a tarball as it is; File may then be a path within the tree
	Mode  uint32 // permission bits of a file that is not unpacked; 0 means 0644
	Open  func() (io.ReadCloser, error)
}

// TreeOptions say how an input disk is made.
type TreeOptions struct {
	Clock   time.Time // greatest mtime of any file
	TempDir string    // for the spool; "" is the system's
}

// Bounds on what one source may unpack to.
const (
	maxTreeBytes = 64 << 30
	maxTreeFiles = 4 << 20
)

// The user that runs the stages owns the sources: a stage sees them through an overlay, which keeps owners.
const buildID = 1000

// DebianTree orders the files of a Debian source package (dsc(5), formats 3.0 (quilt) and 3.0 (native)) as
// 'dpkg-source --skip-patches -x' lays them: the upstream tarball, its components each in their own folder,
// then the folder debian in place of upstream's.
func DebianTree(name string, files []Part) (Tree, error) {
	t := Tree{Name: name}
	var main, components, packaging []Part
	for _, p := range files {
		stem, _, isTar := strings.Cut(p.File, ".tar.")
		_, component, isComponent := strings.Cut(stem, ".orig-")
		switch {
		case strings.HasSuffix(p.File, ".dsc"), strings.HasSuffix(p.File, ".asc"):
			continue
		case !isTar:
			return t, fault.New(fault.Input, "source "+name, "%s is no tarball", p.File).
				WithRemedy("Name a source package of format 3.0 (quilt) or 3.0 (native).")
		case strings.HasSuffix(stem, ".debian"):
			p.Keep, p.Clear = true, "debian"
			packaging = append(packaging, p)
		case isComponent:
			p.Into, p.Clear = component, component
			components = append(components, p)
		default:
			main = append(main, p)
		}
	}
	if len(main) != 1 || len(packaging) > 1 {
		return t, fault.New(fault.Input, "source "+name,
			"it has %d upstream tarballs and %d of packaging, want 1 and at most 1", len(main), len(packaging)).
			WithRemedy("Lock the source again; its .dsc names its files.")
	}
	t.Parts = append(append(main, components...), packaging...)
	return t, nil
}

// WriteTree writes the input disk: an EROFS with each tree unpacked in FOLDER/NAME.
func WriteTree(ctx context.Context, out *os.File, trees []Tree, opts TreeOptions) (err error) {
	defer func() { err = diskFault("write disk of sources", folderOf(out), err) }()
	sp, err := newSpool(opts.TempDir)
	if err != nil {
		return err
	}
	defer sp.Close()
	t := newTree()
	t.root.mtime = opts.Clock.Unix()
	if err := t.mkdirMode("sources", 0o755, opts.Clock); err != nil {
		return err
	}
	for _, src := range trees {
		root, err := sourceTree(ctx, src, sp, opts.Clock)
		if err != nil {
			return fmt.Errorf("source %s: %w", src.Name, err)
		}
		if strings.Contains(src.Name, "/") || path.Clean(src.Name) != src.Name || src.Name == ".." {
			return fault.New(fault.Input, "source", "%q cannot be the name of a folder", src.Name)
		}
		at := path.Join(cmp.Or(src.Folder, "sources"), src.Name)
		if t.get(at) != nil {
			return fault.New(fault.Input, "source", "%s is there twice", src.Name)
		}
		if err := t.put(at, root.root); err != nil {
			return err
		}
	}
	t.clamp(opts.Clock)
	for name, n := range t.all() {
		if strings.Contains(name, "/") {
			n.uid, n.gid = buildID, buildID
		}
	}
	if _, err := writeErofs(ctx, out, t, opts.Clock); err != nil {
		return err
	}
	return out.Sync()
}

func sourceTree(ctx context.Context, src Tree, sp *spool, clock time.Time) (*tree, error) {
	t := newTree()
	t.root.mtime = clock.Unix()
	for _, p := range src.Parts {
		if err := addPart(ctx, t, p, sp, clock); err != nil {
			return nil, fmt.Errorf("%s: %w", p.File, err)
		}
	}
	return t, checkLinks(t)
}

// addPart lays one file into the tree: unpacked if it is a tarball, as it is otherwise.
func addPart(ctx context.Context, t *tree, p Part, sp *spool, clock time.Time) error {
	if p.Clear != "" {
		t.remove(p.Clear)
	}
	if p.Plain {
		return addPlain(t, p, p.File, sp, clock)
	}
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	z, err := decompress(r)
	if err != nil {
		return fault.New(fault.Input, "read source", "%w", err)
	}
	defer z.Close()
	b := bufio.NewReaderSize(z, 64<<10)
	head, err := b.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.New(fault.Input, "read source", "%w", err)
	}
	if !isTar(head) {
		return addPlain(t, p, path.Base(p.File), sp, clock)
	}
	part, err := readTar(ctx, b, sp, maxTreeBytes)
	if fault.KindOf(err) == fault.Host { // the disk's error, not the file's
		return err
	}
	if err != nil {
		return fault.New(fault.Input, "read source", "%w", err).
			WithRemedy("Get the file again; its SHA-256 must be the one that the lock names.")
	}
	root := part.root
	if only := onlyFolder(root); only != nil && !p.Keep {
		root = only
	}
	into, err := t.mkdir(p.Into)
	if err != nil {
		return err
	}
	into.mtime, into.mode = max(root.mtime, 0), root.mode
	overlay(into, root)
	return nil
}

func addPlain(t *tree, p Part, name string, sp *spool, clock time.Time) error {
	if name == "." || name == "/" || !fs.ValidPath(name) {
		return fault.New(fault.Input, "read source", "%q cannot be the name of a file", p.File)
	}
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n := &node{mode: typeFile | cmp.Or(p.Mode&0o777, 0o644), mtime: clock.Unix()}
	n.data, n.size, err = sp.addAll(r, maxTreeBytes)
	if err != nil {
		return err
	}
	return t.put(path.Join(p.Into, name), n)
}

// readTar reads a tarball into a tree of its own. Owners are dropped, modes reduced to what a source can mean:
// readable by all, writable by its owner, executable or not.
func readTar(ctx context.Context, r io.Reader, sp *spool, limit int64) (*tree, error) {
	t := newTree()
	tr := tar.NewReader(r)
	left := limit // counted by what entries declare: a sparse file is small in the tarball and large on the disk
	for count := 0; ; count++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if left -= max(h.Size, 0); left < 0 || count > maxTreeFiles {
			return nil, errors.New("it unpacks to more than its bound")
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // git archive puts the commit there
		}
		if err := addEntry(t, h, tr, sp); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func addEntry(t *tree, h *tar.Header, r io.Reader, sp *spool) error {
	name := path.Clean(h.Name)
	if path.IsAbs(h.Name) || name == ".." || strings.HasPrefix(name, "../") {
		return errors.New("the path leaves the tree")
	}
	n := &node{mode: typeFile | 0o644 | uint32(h.Mode&0o111), mtime: h.ModTime.Unix(), size: h.Size}
	switch h.Typeflag {
	case tar.TypeDir:
		n.mode, n.size = typeDir|0o755, 0
	case tar.TypeSymlink:
		n.mode, n.size, n.link = typeLink|0o777, 0, h.Linkname
	case tar.TypeLink:
		target := t.get(path.Clean(h.Linkname))
		if target == nil || target.mode&typeMask != typeFile {
			return fmt.Errorf("a hard link to %s, which is no file before it", h.Linkname)
		}
		n = target
	case tar.TypeReg, tar.TypeGNUSparse:
		var err error
		if n.data, err = sp.add(r, h.Size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %q; want files, folders and links", h.Typeflag)
	}
	return t.put(name, n)
}

// onlyFolder is the folder that holds all the rest, nil if there is none.
func onlyFolder(root *node) *node {
	if len(root.children) != 1 {
		return nil
	}
	for _, c := range root.children {
		if c.isDir() {
			return c
		}
	}
	return nil
}

// overlay lays the children of one folder over those of another.
func overlay(to, from *node) {
	for name, c := range from.children {
		if old := to.children[name]; old != nil && old.isDir() && c.isDir() {
			overlay(old, c)
			continue
		}
		to.children[name] = c
	}
}

// checkLinks refuses symbolic links that climb out of the tree, to what lies beside it: a source is what the lock pins, all of it.
// An absolute one names a place of the system on which the source is built, which is the guest's (edk2 has one to X11's headers
// on a Mac).
func checkLinks(t *tree) error {
	for name, n := range t.all() {
		if n.mode&typeMask != typeLink || path.IsAbs(n.link) {
			continue
		}
		to := path.Join(path.Dir(name), n.link)
		if to == ".." || strings.HasPrefix(to, "../") {
			return fault.New(fault.Input, "read source", "%s is a symbolic link to %s, out of the tree", name, n.link)
		}
	}
	return nil
}

// isTar reports whether a block is a tar header: by the magic of POSIX and GNU archives, or, for those from before
// them, by the checksum (the sum of all bytes, the checksum's own taken as blanks).
func isTar(block []byte) bool {
	if len(block) < 512 {
		return false
	}
	if bytes.Equal(block[257:262], []byte("ustar")) {
		return true
	}
	want, err := strconv.ParseInt(strings.Trim(string(block[148:156]), " \x00"), 8, 32)
	if err != nil {
		return false
	}
	sum := int64(8 * ' ')
	for i, c := range block[:512] {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	return sum == want
}
