package image

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/erofs/go-erofs"
)

// writeErofs serialises the tree as an uncompressed EROFS image and returns its size.
// The order is the tree's own (sorted), the build time is fixed: the same tree gives the same bytes.
//
// EROFS itself can share an inode between names, go-erofs's writer cannot: a hard link becomes a copy.
// In a read-only root nothing can tell the two apart but stat's link count.
func writeErofs(ctx context.Context, out io.WriteSeeker, t *tree, clock time.Time) (int64, error) {
	counted := &countWriter{ctx: ctx, w: out}
	w := erofs.Create(counted, erofs.WithBuildTime(uint64(clock.Unix()), 0), erofs.WithBlockSize(4096))
	if err := w.CopyFrom(treeFS{t}); err != nil {
		return 0, fmt.Errorf("erofs: %w", err)
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("erofs: %w", err)
	}
	return counted.end, nil
}

// readErofs makes a tree of an EROFS image. Contents stay on the image.
func readErofs(r io.ReaderAt, owner string) (*tree, error) {
	img, err := erofs.Open(r)
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	t := newTree()
	err = fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		st, ok := info.Sys().(*erofs.Stat)
		if !ok {
			return fmt.Errorf("%s: no stat", name)
		}
		n := &node{
			// Not info.Mode(): go-erofs leaves the set-id and sticky bits out there (v0.3.1).
			mode: unixMode(st.Mode), uid: st.UID, gid: st.GID, mtime: int64(st.Mtime), rdev: st.Rdev,
			xattrs: st.Xattrs, owner: owner,
		}
		switch n.mode & typeMask {
		case typeFile:
			n.size = info.Size()
			n.data = contentOf(r, img, name, info)
		case typeLink:
			rl, ok := img.(fs.ReadLinkFS)
			if !ok {
				return fmt.Errorf("%s: the reader cannot read links", name)
			}
			if n.link, err = rl.ReadLink(name); err != nil {
				return err
			}
		}
		return t.put(name, n)
	})
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	return t, nil
}

// contentOf reads a file straight from the image where its bytes lie there in one piece, which is nearly always so.
func contentOf(r io.ReaderAt, img fs.FS, name string, info fs.FileInfo) content {
	if info.Size() == 0 {
		return nil
	}
	if d, ok := info.(interface{ DataRange() []erofs.DataRange }); ok {
		if at := d.DataRange(); len(at) == 1 && at[0].Device == 0 && at[0].Offset > 0 && at[0].Size == info.Size() {
			return section(r, at[0].Offset, at[0].Size)
		}
	}
	return func() io.Reader { return &lazyFile{fsys: img, name: name} }
}

// lazyFile opens its file at the first Read and closes it at the end.
type lazyFile struct {
	fsys fs.FS
	name string
	f    fs.File
}

func (l *lazyFile) Read(p []byte) (int, error) {
	if l.f == nil {
		f, err := l.fsys.Open(l.name)
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	return l.f.Read(p)
}

func (l *lazyFile) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// countWriter notes how far was written, and stops when the context ends.
type countWriter struct {
	ctx      context.Context
	w        io.WriteSeeker
	off, end int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.off += int64(n)
	c.end = max(c.end, c.off)
	return n, err
}

func (c *countWriter) Seek(offset int64, whence int) (int64, error) {
	off, err := c.w.Seek(offset, whence)
	c.off = off
	return off, err
}

// treeFS shows a tree as the fs.FS that go-erofs copies from.
type treeFS struct{ t *tree }

func (f treeFS) Open(name string) (fs.File, error) {
	n := f.t.get(name)
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	file := &treeFile{info: nodeInfo{path.Base(name), n}}
	if n.data != nil {
		file.r = n.data()
	}
	return file, nil
}

func (f treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n := f.t.get(name)
	if n == nil || !n.isDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	entries := make([]fs.DirEntry, 0, len(n.children))
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		entries = append(entries, fs.FileInfoToDirEntry(nodeInfo{base, n.children[base]}))
	}
	return entries, nil
}

func (f treeFS) Stat(name string) (fs.FileInfo, error) { return f.Lstat(name) }
func (f treeFS) Lstat(name string) (fs.FileInfo, error) {
	n := f.t.get(name)
	if n == nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return nodeInfo{path.Base(name), n}, nil
}

func (f treeFS) ReadLink(name string) (string, error) {
	n := f.t.get(name)
	if n == nil || n.mode&typeMask != typeLink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return n.link, nil
}

type treeFile struct {
	info nodeInfo
	r    io.Reader
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *treeFile) Read(p []byte) (int, error) {
	if f.r == nil {
		return 0, io.EOF
	}
	return f.r.Read(p)
}

func (f *treeFile) Close() error {
	if c, ok := f.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// nodeInfo carries owner, device and xattrs to go-erofs in the form in which its own reader gives them.
type nodeInfo struct {
	name string
	n    *node
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.n.size }
func (i nodeInfo) Mode() fs.FileMode  { return goMode(i.n.mode) }
func (i nodeInfo) ModTime() time.Time { return time.Unix(i.n.mtime, 0) }
func (i nodeInfo) IsDir() bool        { return i.n.isDir() }
func (i nodeInfo) Sys() any {
	st := &erofs.Stat{
		Mode: i.Mode(), Size: i.n.size, Rdev: i.n.rdev, UID: i.n.uid, GID: i.n.gid,
		Mtime: uint64(i.n.mtime), Nlink: 1, Xattrs: i.n.xattrs,
	}
	if i.n.isDir() {
		st.Nlink = 2
		for _, c := range i.n.children {
			if c.isDir() {
				st.Nlink++
			}
		}
	}
	return st
}
