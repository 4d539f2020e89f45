package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/squashfs"
)

// ExportOptions say how an image is handed to other tools.
type ExportOptions struct {
	Clock    time.Time             // when what has a date of its own was made; from it alone
	Progress func(done, all int64) // bytes of files handed over so far; may be nil
}

// ExportTar writes the root as a tar archive: POSIX.1-2001 (pax), names sorted, each folder before what is in it, owners
// by number, further names of a file as hard links, extended attributes as SCHILY.xattr records. GNU tar, bsdtar and
// 'docker import' take it.
func (m *Image) ExportTar(ctx context.Context, out io.Writer, o ExportOptions) error {
	t, err := m.files()
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(out, 1<<20)
	w := &tarWriter{w: tar.NewWriter(buf), seen: map[*node]string{}, all: t.bytes(), report: o.Progress}
	for name, n := range t.all() {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := w.add(name, n); err != nil {
			return m.exportFault("tar", name, err)
		}
	}
	if err := w.w.Close(); err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	return buf.Flush()
}

// exportFault tells of a file that could not be handed over.
func (m *Image) exportFault(format, name string, err error) error {
	return fault.New(fault.KindOf(err), "", "%s: %s: %w", format, absolute(name), err)
}

type tarWriter struct {
	w         *tar.Writer
	seen      map[*node]string // the first name of each file
	done, all int64
	report    func(done, all int64)
}

func (w *tarWriter) add(name string, n *node) error {
	if n.mode&typeMask == typeSocket {
		return nil // tar has none, and a socket without its server is of no use
	}
	h, err := tarHeader(name, n)
	if err != nil {
		return err
	}
	if first, ok := w.seen[n]; ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		h.PAXRecords = nil // they came with the first name
		return w.w.WriteHeader(h)
	}
	if !n.isDir() {
		w.seen[n] = h.Name
	}
	if err := w.w.WriteHeader(h); err != nil {
		return err
	}
	if n.mode&typeMask != typeFile || n.size == 0 {
		return nil
	}
	r := n.open()
	defer r.Close()
	got, err := io.CopyN(w.w, r, n.size)
	if errors.Is(err, io.EOF) {
		err = fault.New(fault.Input, "", "it ends after %d of %d bytes", got, n.size)
	}
	if err != nil {
		return err
	}
	if w.done += n.size; w.report != nil {
		w.report(w.done, w.all)
	}
	return nil
}

// tarHeader names files as debootstrap and mmdebstrap do: "./", "./etc/".
func tarHeader(name string, n *node) (*tar.Header, error) {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: "./" + name, Mode: int64(n.mode & 0o7777), Uid: int(n.uid), Gid: int(n.gid),
		ModTime: time.Unix(n.mtime, 0), Size: n.size, Linkname: n.link,
	}
	if name == "." {
		h.Name = "./"
	} else if n.isDir() {
		h.Name += "/"
	}
	switch n.mode & typeMask {
	case typeDir:
		h.Typeflag, h.Size = tar.TypeDir, 0
	case typeFile:
		h.Typeflag = tar.TypeReg
	case typeLink:
		h.Typeflag, h.Size = tar.TypeSymlink, 0
	case typeChar, typeBlock:
		h.Typeflag = tar.TypeChar
		if n.mode&typeMask == typeBlock {
			h.Typeflag = tar.TypeBlock
		}
		major, minor := decodeDev(n.rdev)
		h.Devmajor, h.Devminor = int64(major), int64(minor)
	case typeFifo:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, fmt.Errorf("tar has no such type: %s", n.kind())
	}
	for key, value := range n.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		if strings.ContainsAny(key, "=\x00") {
			return nil, fmt.Errorf("the extended attribute %q has no place in a pax header", key)
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	return h, nil
}

// open reads a file's content, to be closed.
func (n *node) open() io.ReadCloser {
	r := n.reader()
	if rc, ok := r.(io.ReadCloser); ok {
		return rc
	}
	return io.NopCloser(r)
}

// bytes is how much the files hold, each counted once.
func (t *tree) bytes() int64 {
	seen := map[*node]bool{}
	var sum int64
	for _, n := range t.all() {
		if n.mode&typeMask == typeFile && !seen[n] {
			seen[n] = true
			sum += n.size
		}
	}
	return sum
}

// ExportSquashfs writes the root as a squashfs 4.0, compressed with zstd on all cores, and returns its size.
func (m *Image) ExportSquashfs(ctx context.Context, out io.WriterAt, o ExportOptions) (int64, error) {
	t, err := m.files()
	if err != nil {
		return 0, err
	}
	all := t.bytes()
	so := squashfs.Options{Time: o.Clock}
	if o.Progress != nil {
		so.Progress = func(done int64) { o.Progress(done, all) }
	}
	return squashfs.Write(ctx, out, squashNode(t.root, map[*node]*squashfs.Node{}), so)
}

// squashNode makes squashfs's nodes of ours; one that has several names stays one.
func squashNode(n *node, seen map[*node]*squashfs.Node) *squashfs.Node {
	if s := seen[n]; s != nil {
		return s
	}
	s := &squashfs.Node{
		Mode: n.mode, UID: n.uid, GID: n.gid, MTime: n.mtime, Rdev: n.rdev, Target: n.link, Size: n.size,
		Xattrs: n.xattrs, Open: func() (io.ReadCloser, error) { return n.open(), nil },
	}
	seen[n] = s
	if n.isDir() {
		s.Children = make(map[string]*squashfs.Node, len(n.children))
		for base, c := range n.children {
			s.Children[base] = squashNode(c, seen)
		}
	}
	return s
}
