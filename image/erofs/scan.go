package erofs

import (
	"errors"
	"fmt"
	"io"
)

// Tree reads all the metadata. A file with several names comes as one Node. Contents stay on the image, and all of
// them are within it. The memory that this takes is bounded by the image's size, however damaged it is.
func (m *Image) Tree() (*Node, error) {
	s := &scan{m: m, nodes: map[uint64]*Node{}, shared: map[uint32][2]string{}, left: m.Size()}
	root, content, err := s.inode(uint64(m.super.root))
	if err == nil && !root.is(typeDir) {
		err = fmt.Errorf("an inode with mode %#o, want a folder", root.Mode)
	}
	if err != nil {
		return nil, fmt.Errorf("/: %w", err)
	}
	todo := []folder{{root, root, content, ""}}
	for len(todo) > 0 {
		f := todo[len(todo)-1]
		below, err := s.list(f)
		if err != nil {
			return nil, err
		}
		todo = append(todo[:len(todo)-1], below...)
	}
	return root, nil
}

// folder is a folder whose names have yet to be read.
type folder struct {
	node, up *Node
	content  body
	path     string // "" is the root
}

// maxPath bounds how deep folders go: PATH_MAX.
const maxPath = 4096

// scan is one reading of an image's metadata.
type scan struct {
	m      *Image
	nodes  map[uint64]*Node
	shared map[uint32][2]string // extended attributes by number: name and value
	left   int64                // bytes of metadata not read yet: more than the image has means that some overlap
	lines  [64]line
}

// list reads a folder, and returns the folders in it.
func (s *scan) list(f folder) ([]folder, error) {
	if err := s.spend(f.content.size()); err != nil {
		return nil, fmt.Errorf("%s/: %w", f.path, err)
	}
	var below []folder
	err := decodeDir(f.content.open(s.m.r), f.content.size(), s.m.BlockSize, func(d dirent) error {
		if d.name == "." || d.name == ".." {
			return f.checkDots(d)
		}
		at := f.path + "/" + d.name
		if err := checkName(d.name); err != nil {
			return err
		}
		if len(at) > maxPath {
			return fmt.Errorf("a path of %d bytes, want at most %d", len(at), maxPath)
		}
		n, content, err := s.node(d)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if n.is(typeDir) {
			below = append(below, folder{n, f.node, content, at})
		}
		f.node.Children[d.name] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s/: %w", f.path, err)
	}
	return below, nil
}

func (f folder) checkDots(d dirent) error {
	want := f.node.Nid
	if d.name == ".." {
		want = f.up.Nid
	}
	if d.nid != want {
		return fmt.Errorf("%s is inode %d, want %d", d.name, d.nid, want)
	}
	return nil
}

// node finds the inode of a name: one that is known by another name already, or a new one.
func (s *scan) node(d dirent) (*Node, body, error) {
	n, content := s.nodes[d.nid], body{}
	if n == nil {
		var err error
		if n, content, err = s.inode(d.nid); err != nil {
			return nil, body{}, err
		}
	} else if n.is(typeDir) {
		return nil, body{}, fmt.Errorf("inode %d is a folder that has another name already", d.nid)
	}
	if want := fileTypes[n.Mode&typeMask]; d.kind != want {
		return nil, body{}, fmt.Errorf("an entry of type %d for an inode of type %d", d.kind, want)
	}
	return n, content, nil
}

// inode reads an inode with its extended attributes and the target of a link.
func (s *scan) inode(nid uint64) (*Node, body, error) {
	if nid > uint64(s.m.Size())/slotSize {
		return nil, body{}, fmt.Errorf("inode %d lies outside the image", nid)
	}
	off := int64(s.m.super.metaBlock)*s.m.BlockSize + int64(nid)*slotSize
	b, err := s.at(off, compactSize)
	if err != nil {
		return nil, body{}, fmt.Errorf("inode %d: %w", nid, err)
	}
	if size := inodeLen(b); size > compactSize {
		if b, err = s.at(off, size); err != nil {
			return nil, body{}, fmt.Errorf("inode %d: %w", nid, err)
		}
	}
	i, err := parseInode(b, int64(s.m.super.time))
	if err != nil {
		return nil, body{}, err
	}
	if err := s.spend(int64(i.len())); err != nil {
		return nil, body{}, err
	}
	n := &Node{Mode: uint32(i.mode), UID: i.uid, GID: i.gid, Mtime: i.mtime, Nid: nid}
	end := off + int64(i.len()+i.xattrs)
	if n.Xattrs, err = s.xattrs(end-int64(i.xattrs), i.xattrs); err != nil {
		return nil, body{}, err
	}
	content, err := s.content(n, i, end)
	if err != nil {
		return nil, body{}, err
	}
	s.nodes[nid] = n
	return n, content, nil
}

// content fills in what depends on the type.
func (s *scan) content(n *Node, i *inode, end int64) (body, error) {
	switch n.Mode & typeMask {
	case typeChar, typeBlock:
		n.Rdev = i.union
		return body{}, nil
	case typeFifo, typeSocket:
		return body{}, nil
	}
	content, err := s.m.locate(i, end)
	if err != nil {
		return body{}, err
	}
	switch n.Mode & typeMask {
	case typeDir:
		n.Children = map[string]*Node{}
	case typeLink:
		if size := content.size(); size > maxLink {
			return body{}, fmt.Errorf("a symbolic link with a target of %d bytes, want at most %d", size, maxLink)
		}
		b, err := s.read(content)
		if err != nil {
			return body{}, err
		}
		n.Link = string(b)
		return body{}, checkLink(n.Link)
	case typeFile:
		if n.Size = content.size(); n.Size > 0 {
			n.Data = func() io.Reader { return content.open(s.m.r) }
		}
	}
	return content, nil
}

// xattrs reads the extended attributes at off.
func (s *scan) xattrs(off int64, size int) (map[string]string, error) {
	if size == 0 {
		return nil, nil
	}
	b, err := s.at(off, size)
	if err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	if err := s.spend(int64(size)); err != nil {
		return nil, err
	}
	out := map[string]string{}
	return out, decodeXattrs(b, out, s.sharedXattr)
}

// sharedXattr reads the extended attribute with that number: its place in units of four bytes.
func (s *scan) sharedXattr(id uint32) (name, value string, err error) {
	if x, ok := s.shared[id]; ok {
		return x[0], x[1], nil
	}
	off := int64(s.m.super.xattrBlock)*s.m.BlockSize + int64(id)*4
	b, err := s.at(off, xattrEntry)
	if err == nil {
		b, err = s.at(off, xattrLen(b))
	}
	if err == nil {
		err = s.spend(int64(len(b)))
	}
	if err == nil {
		name, value, err = parseXattr(b)
	}
	if err != nil {
		return "", "", fmt.Errorf("shared extended attribute %d: %w", id, err)
	}
	s.shared[id] = [2]string{name, value}
	return name, value, nil
}

var errOverlap = errors.New("the image has more metadata than bytes: inodes overlap, the image is damaged")

func (s *scan) spend(n int64) error {
	if s.left -= n; s.left < 0 {
		return errOverlap
	}
	return nil
}

// read returns a content that is metadata.
func (s *scan) read(content body) ([]byte, error) {
	if err := s.spend(content.size()); err != nil {
		return nil, err
	}
	b := make([]byte, content.size())
	_, err := io.ReadFull(content.open(s.m.r), b)
	return b, err
}

// line is a piece of the image that is kept, for inodes lie side by side.
type line struct {
	off int64
	b   []byte
}

const lineSize = 16 << 10

// at returns bytes of the metadata; they are not to be changed.
func (s *scan) at(off int64, size int) ([]byte, error) {
	if off+int64(size) > s.m.Size() {
		return nil, fmt.Errorf("%d bytes at byte %d leave the image", size, off)
	}
	start := off / lineSize * lineSize
	from := int(off - start)
	if from+size > lineSize {
		b := make([]byte, size)
		return b, readAt(s.m.r, b, off)
	}
	l := &s.lines[off/lineSize%int64(len(s.lines))]
	if l.b == nil || l.off != start {
		l.off, l.b = start, make([]byte, min(lineSize, s.m.Size()-start))
		if err := readAt(s.m.r, l.b, start); err != nil {
			l.b = nil
			return nil, err
		}
	}
	return l.b[from : from+size], nil
}
