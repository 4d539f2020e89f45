package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Type bits of node.mode, as in stat(2).
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

// node is one file of any type: an inode. A hard link is the same node under another name, so whatever changes a
// node changes the file under all of them; what replaces a file puts another node. A folder has one name.
// Its content is not here but wherever data reads it from.
type node struct {
	mode     uint32 // type, set-id and permission bits
	uid, gid uint32
	mtime    int64
	rdev     uint32 // of a device, as encodeDev has it
	link     string // target of a symbolic link
	size     int64  // of a file
	data     content
	xattrs   map[string]string
	owner    string // the package or layer that it came from
	children map[string]*node
}

// content opens a file's bytes. It must be cheap until the first Read, for a tree opens all its files at once.
type content func() io.Reader

func (n *node) isDir() bool { return n.mode&typeMask == typeDir }

// kind names the type for messages.
func (n *node) kind() string {
	switch n.mode & typeMask {
	case typeDir:
		return "a folder"
	case typeFile:
		return "a file"
	case typeLink:
		return "a symbolic link"
	case typeChar, typeBlock:
		return "a device"
	case typeFifo:
		return "a FIFO"
	}
	return "a socket"
}

// tree is a file system in the making: metadata only.
type tree struct{ root *node }

func newTree() *tree {
	return &tree{root: &node{mode: typeDir | 0o755, children: map[string]*node{}}}
}

// get finds a node without following links; nil if there is none. The root is "." or "".
func (t *tree) get(name string) *node {
	n := t.root
	for part := range parts(name) {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// put sets the node at name. Missing folders on the way are made with mode 0755; anything else on the way that is
// not a folder is an error. A folder put over a folder keeps its children.
func (t *tree) put(name string, n *node) error {
	if n.isDir() && n.children == nil {
		n.children = map[string]*node{}
	}
	name = path.Clean(name)
	if err := checkLength(name); err != nil {
		return err
	}
	if name == "." {
		if !n.isDir() {
			return fmt.Errorf("the root cannot be %s", n.kind())
		}
		n.children = t.root.children
		t.root = n
		return nil
	}
	dir, err := t.mkdir(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if old := dir.children[base]; old != nil && old.isDir() && n.isDir() {
		n.children = old.children
	}
	dir.children[base] = n
	return nil
}

// What a path may be long in bytes, and a name in it (PATH_MAX less its NUL, NAME_MAX in linux/limits.h).
const (
	maxPath = 4095
	maxName = 255
)

func checkLength(name string) error {
	if len(name) > maxPath {
		return fmt.Errorf("the path %.80q… has %d bytes, want at most %d", name, len(name), maxPath)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return fmt.Errorf("the path %.80q… has a name of %d bytes in it, want at most %d", name, len(part), maxName)
		}
	}
	return nil
}

// mkdir finds the folder at name and makes what is missing of it.
func (t *tree) mkdir(name string) (*node, error) {
	n := t.root
	for part := range parts(name) {
		next := n.children[part]
		if next == nil {
			next = &node{mode: typeDir | 0o755, children: map[string]*node{}}
			n.children[part] = next
		}
		if !next.isDir() {
			of := ""
			if next.owner != "" {
				of = " of " + next.owner
			}
			return nil, fmt.Errorf("%s on the way is %s%s", part, next.kind(), of)
		}
		n = next
	}
	return n, nil
}

// remove takes away the node at name and all below it, and reports whether there was one.
func (t *tree) remove(name string) bool {
	dir := t.get(path.Dir(name))
	if dir == nil || !dir.isDir() || dir.children[path.Base(name)] == nil {
		return false
	}
	delete(dir.children, path.Base(name))
	return true
}

// all walks the tree in sorted order, each folder before what is in it. The root is ".".
func (t *tree) all() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) { walk(".", t.root, yield) }
}

func walk(name string, n *node, yield func(string, *node) bool) bool {
	if !yield(name, n) {
		return false
	}
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		if !walk(path.Join(name, base), n.children[base], yield) {
			return false
		}
	}
	return true
}

// resolve rewrites a path so that no folder on the way is a symbolic link: bin/sh becomes usr/bin/sh in a merged
// /usr. Only links within the tree are followed, and '..' ends at its root; the last part stays as it is.
func (t *tree) resolve(name string) (string, error) {
	clean := path.Clean(name)
	todo := slices.Collect(parts(path.Dir(clean)))
	var done []string
	at := []*node{t.root} // the folders at done, each nil where there is none
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			if len(done) > 0 {
				done, at = done[:len(done)-1], at[:len(at)-1]
			}
			continue
		}
		var n *node
		if dir := at[len(at)-1]; dir != nil {
			n = dir.children[part]
		}
		if n == nil || n.mode&typeMask != typeLink {
			done, at = append(done, part), append(at, n)
			continue
		}
		// The kernel's own limits (path_resolution(7)): links on the way, and the length of a path.
		if hops++; hops > 40 {
			return "", errors.New("too many symbolic links on the way")
		}
		if len(todo) > maxPath {
			return "", fmt.Errorf("symbolic links on the way make it longer than %d names", maxPath)
		}
		if strings.HasPrefix(n.link, "/") {
			done, at = nil, at[:1]
		}
		todo = append(slices.Collect(parts(n.link)), todo...)
	}
	return path.Join(append(done, path.Base(clean))...), nil
}

// parts yields the parts of a slash-separated path; none for the root. It keeps "..".
func parts(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(name, "/") {
			if part != "" && part != "." && !yield(part) {
				return
			}
		}
	}
}

// clamp makes every date at most clock.
func (t *tree) clamp(clock time.Time) {
	for _, n := range t.all() {
		n.mtime = min(n.mtime, clock.Unix())
	}
}

// mkdirMode puts a folder of the image's own.
func (t *tree) mkdirMode(name string, mode uint32, clock time.Time) error {
	return t.put(name, &node{mode: typeDir | mode, mtime: clock.Unix(), owner: "belljar"})
}

// text puts a small file of the image's own.
func (t *tree) text(name string, mode uint32, clock time.Time, data string) error {
	return t.put(name, &node{
		mode: typeFile | mode, mtime: clock.Unix(), owner: "belljar",
		size: int64(len(data)), data: inMemory([]byte(data)),
	})
}

func inMemory(b []byte) content { return func() io.Reader { return bytes.NewReader(b) } }

func section(r io.ReaderAt, off, size int64) content {
	return func() io.Reader { return io.NewSectionReader(r, off, size) }
}

// read returns a small file's content.
func (n *node) read(limit int64) ([]byte, error) {
	if n.mode&typeMask != typeFile {
		return nil, fmt.Errorf("is %s, not a file", n.kind())
	}
	if n.size > limit {
		return nil, fmt.Errorf("has %d bytes, more than %d", n.size, limit)
	}
	if n.data == nil {
		return nil, nil
	}
	return io.ReadAll(n.data())
}

// encodeDev is the kernel's new_encode_dev (include/linux/kdev_t.h), the form of a device number on EROFS.
func encodeDev(major, minor uint32) uint32 { return minor&0xff | major<<8 | (minor&^uint32(0xff))<<12 }

func decodeDev(dev uint32) (major, minor uint32) {
	return dev & 0xfff00 >> 8, dev&0xff | dev>>12&0xfff00
}

// goMode translates the mode bits of stat(2).
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{
		0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky,
	} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	switch mode & typeMask {
	case typeDir:
		m |= fs.ModeDir
	case typeLink:
		m |= fs.ModeSymlink
	case typeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case typeBlock:
		m |= fs.ModeDevice
	case typeFifo:
		m |= fs.ModeNamedPipe
	case typeSocket:
		m |= fs.ModeSocket
	}
	return m
}
