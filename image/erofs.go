package image

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/erofs"
)

// writeErofs writes the tree as an uncompressed EROFS image to the start of out, a new file or an empty part of one,
// and returns the image's size. Order, date and identifier are fixed: the same tree gives the same bytes.
func writeErofs(ctx context.Context, out io.WriterAt, t *tree, clock time.Time) (int64, error) {
	known := map[*node]*erofs.Node{}
	size, err := erofs.Write(ctx, hostWriterAt{out}, t.root.toErofs(known), erofs.Options{
		BuildTime: clock, UUID: uuid.MustParse(guid("erofs")),
	})
	if err != nil {
		return 0, fmt.Errorf("erofs: %w", err)
	}
	return size, nil
}

// toErofs translates a node and all below it. A hard link stays one.
func (n *node) toErofs(known map[*node]*erofs.Node) *erofs.Node {
	if e := known[n]; e != nil {
		return e
	}
	e := &erofs.Node{
		Mode: n.mode, UID: n.uid, GID: n.gid, Mtime: n.mtime, Rdev: n.rdev, Size: n.size, Data: n.data, Link: n.link,
		Xattrs: n.xattrs,
	}
	known[n] = e
	if n.isDir() {
		e.Children = make(map[string]*erofs.Node, len(n.children))
		for base, child := range n.children {
			e.Children[base] = child.toErofs(known)
		}
	}
	return e
}

// readErofs makes a tree of an EROFS image. Contents stay on the image.
func readErofs(r io.ReaderAt, owner string) (*tree, error) {
	img, err := erofs.Open(r)
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	root, err := img.Tree()
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	return &tree{root: fromErofs(root, owner, map[*erofs.Node]*node{})}, nil
}

func fromErofs(e *erofs.Node, owner string, known map[*erofs.Node]*node) *node {
	if n := known[e]; n != nil {
		return n
	}
	n := &node{
		mode: e.Mode, uid: e.UID, gid: e.GID, mtime: e.Mtime, rdev: e.Rdev, size: e.Size, data: e.Data, link: e.Link,
		xattrs: e.Xattrs, owner: owner,
	}
	known[e] = n
	if n.isDir() {
		n.children = make(map[string]*node, len(e.Children))
		for base, child := range e.Children {
			n.children[base] = fromErofs(child, owner, known)
		}
	}
	return n
}

// hostWriterAt tells an error of the disk that is written to from one of what is read.
type hostWriterAt struct{ w io.WriterAt }

func (h hostWriterAt) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.w.WriteAt(p, off)
	if err != nil {
		err = fault.New(fault.Host, "write image", "%w", err)
	}
	return n, err
}
