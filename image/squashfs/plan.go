package squashfs

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
)

// Types of stat(2).
const (
	typeMask   = 0o170000
	typeFifo   = 0o010000
	typeChar   = 0o020000
	typeDir    = 0o040000
	typeBlock  = 0o060000
	typeFile   = 0o100000
	typeLink   = 0o120000
	typeSocket = 0o140000
)

// Limits of the format.
const (
	maxName   = 256
	maxTarget = 65535
	maxIDs    = 65535
)

// plan numbers the inodes: a folder's children one after another, so that its list needs few headers, and the root
// first. A node that was met before is a hard link.
func (w *writer) plan(root *Node) error {
	if root.Mode&typeMask != typeDir {
		return fmt.Errorf("the root is no folder")
	}
	seen := map[*Node]*inode{}
	top, err := w.add(".", root, seen)
	if err != nil {
		return err
	}
	for todo := []*inode{top}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		for _, base := range slices.Sorted(maps.Keys(dir.Children)) {
			name := path.Join(dir.name, base)
			if base == "" || len(base) > maxName {
				return fmt.Errorf("%s: a name of %d bytes; squashfs has 1 to %d", name, len(base), maxName)
			}
			n := dir.Children[base]
			in := seen[n]
			if in == nil {
				if in, err = w.add(name, n, seen); err != nil {
					return err
				}
				if in.isDir() {
					in.parent = dir.number
					todo = append(todo, in)
				}
			} else if in.isDir() {
				return fmt.Errorf("%s: a folder with two names, %s is the other", name, in.name)
			}
			if in.isDir() {
				dir.links++
			} else {
				in.links++
			}
			dir.children = append(dir.children, child{base, in})
		}
	}
	top.parent = uint32(len(w.files)) + 1 // as mksquashfs has it: a number that nothing bears
	return nil
}

func (in *inode) isDir() bool { return in.Mode&typeMask == typeDir }

func (w *writer) add(name string, n *Node, seen map[*Node]*inode) (*inode, error) {
	in := &inode{Node: n, name: name, number: uint32(len(w.files)) + 1, fragment: noFragment}
	seen[n] = in
	w.files = append(w.files, in)
	switch n.Mode & typeMask {
	case typeDir:
		in.links = 2
	case typeLink:
		if len(n.Target) == 0 || len(n.Target) > maxTarget {
			return nil, fmt.Errorf("%s: a symbolic link of %d bytes; squashfs has 1 to %d", name, len(n.Target), maxTarget)
		}
	case typeFile:
		if n.Size < 0 || n.Size/blockSize >= math.MaxInt32 {
			return nil, fmt.Errorf("%s: a size of %d bytes", name, n.Size)
		}
	case typeChar, typeBlock, typeFifo, typeSocket:
	default:
		return nil, fmt.Errorf("%s: type %o is unknown", name, n.Mode&typeMask)
	}
	for _, id := range []uint32{n.UID, n.GID} {
		if _, ok := w.ids[id]; !ok {
			if len(w.idList) == maxIDs {
				return nil, fmt.Errorf("%s: more than %d different owners", name, maxIDs)
			}
			w.ids[id] = uint16(len(w.idList))
			w.idList = append(w.idList, id)
		}
	}
	var err error
	if in.xattr, err = w.xattrs.add(n.Xattrs, w); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return in, nil
}
