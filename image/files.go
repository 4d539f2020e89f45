package image

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// File is one file of an image.
type File struct {
	Path    string    `json:"path"` // absolute, as inside the image
	Type    string    `json:"type"`
	Mode    string    `json:"mode"` // set-id, sticky and permission bits, octal
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Links   int       `json:"links"` // names that a file has; 1 for a folder
	Size    int64     `json:"size"`
	MTime   time.Time `json:"mtime"`
	Target  string    `json:"target,omitempty"` // of a symbolic link
	Device  string    `json:"device,omitempty"` // major:minor
	Package string    `json:"package,omitempty"`

	// User and Group are the names that the image's own /etc/passwd and /etc/group give; empty where they have none.
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
}

// The types of files, as reports name them.
const (
	TypeFile    = "file"
	TypeFolder  = "folder"
	TypeSymlink = "symlink"
	TypeChar    = "character device"
	TypeBlock   = "block device"
	TypeFIFO    = "fifo"
	TypeSocket  = "socket"
)

func typeName(mode uint32) string {
	switch mode & typeMask {
	case typeFile:
		return TypeFile
	case typeDir:
		return TypeFolder
	case typeLink:
		return TypeSymlink
	case typeChar:
		return TypeChar
	case typeBlock:
		return TypeBlock
	case typeFifo:
		return TypeFIFO
	}
	return TypeSocket
}

// absolute is a tree's path as it reads inside the image.
func absolute(name string) string { return path.Clean("/" + name) }

func (m *Image) file(name string, n *node) File {
	f := File{
		Path: absolute(name), Type: typeName(n.mode), Mode: octal(n.mode), UID: n.uid, GID: n.gid,
		Links: max(1, len(m.links[n])), Size: n.size, MTime: time.Unix(n.mtime, 0).UTC(), Target: n.link,
		Device: device(n), Package: m.database().owner(name),
	}
	f.User, f.Group = m.database().users[n.uid], m.database().groups[n.gid]
	return f
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func device(n *node) string {
	if t := n.mode & typeMask; t != typeChar && t != typeBlock {
		return ""
	}
	major, minor := decodeDev(n.rdev)
	return fmt.Sprintf("%d:%d", major, minor)
}

// maxHops is the kernel's own limit of symbolic links on the way, path_resolution(7).
const maxHops = 40

// find follows a path as a process with this root would: symbolic links are followed inside the image and never lead
// out of it. It returns the path that it came to. Without follow a link at the end stays a link.
func (m *Image) find(name string, follow bool) (string, *node, error) {
	t, err := m.files()
	if err != nil {
		return "", nil, err
	}
	follow = follow || strings.HasSuffix(name, "/")
	todo := slices.Collect(parts(name))
	var done []string
	nodes := []*node{t.root} // those of done, the root before them
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." { // of the root, the root
			done, nodes = done[:max(0, len(done)-1)], nodes[:max(1, len(nodes)-1)]
			continue
		}
		n := nodes[len(nodes)-1].children[part]
		switch {
		case n == nil:
			return "", nil, m.missing(name, done, part, todo)
		case n.mode&typeMask != typeLink || len(todo) == 0 && !follow:
			done, nodes = append(done, part), append(nodes, n)
			continue
		}
		if hops++; hops > maxHops {
			return "", nil, fault.New(fault.Input, "image "+m.Name, "%s: too many symbolic links on the way", absolute(name))
		}
		if path.IsAbs(n.link) {
			done, nodes = nil, nodes[:1]
		}
		todo = append(slices.Collect(parts(n.link)), todo...)
	}
	return path.Join(done...), nodes[len(nodes)-1], nil
}

// missing says which part of a path is not there, and what it may have meant.
func (m *Image) missing(asked string, done []string, part string, todo []string) error {
	here := absolute(path.Join(done...))
	whole := path.Join(append([]string{here, part}, todo...)...)
	e := fault.New(fault.Input, "image "+m.Name, "it has no %s", absolute(asked))
	if whole != absolute(asked) {
		e = fault.New(fault.Input, "image "+m.Name, "it has no %s: links on the way lead to %s, which is not there",
			absolute(asked), whole)
	}
	_, dir, err := m.find(here, false)
	switch {
	case err != nil:
		return e
	case !dir.isDir():
		return e.WithRemedy("%s is %s.", here, dir.kind())
	}
	if near := debian.Nearest(part, slices.Sorted(maps.Keys(dir.children)), 3); len(near) > 0 {
		for i := range near {
			near[i] = path.Join(append([]string{here, near[i]}, todo...)...)
		}
		return e.WithRemedy("Did you mean %s?", strings.Join(near, " or "))
	}
	return e.WithRemedy("'belljar image ls %s %s' lists what is there.", m.Name, here)
}

// List lists a folder, or one file. With recursive all that is below it comes as well.
func (m *Image) List(name string, recursive bool) ([]File, error) {
	at, n, err := m.find(name, false)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return []File{m.file(at, n)}, nil
	}
	files := []File{}
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		below := path.Join(at, base)
		if !recursive {
			files = append(files, m.file(below, n.children[base]))
			continue
		}
		walk(below, n.children[base], func(name string, c *node) bool {
			files = append(files, m.file(name, c))
			return true
		})
	}
	return files, nil
}

// OpenFile opens a file inside the image. Symbolic links are followed.
func (m *Image) OpenFile(name string) (File, io.Reader, error) {
	at, n, err := m.find(name, true)
	if err != nil {
		return File{}, nil, err
	}
	switch n.mode & typeMask {
	case typeFile:
		return m.file(at, n), n.reader(), nil
	case typeDir:
		return File{}, nil, fault.New(fault.Input, "image "+m.Name, "%s is a folder", absolute(name)).
			WithRemedy("'belljar image ls %s %s' lists it.", m.Name, absolute(name))
	}
	return File{}, nil, fault.New(fault.Input, "image "+m.Name, "%s is %s: it has no content", absolute(name), n.kind())
}

// reader reads a file's content, which may be left out where it is all zeros.
func (n *node) reader() io.Reader {
	if n.data != nil {
		return n.data()
	}
	return io.LimitReader(zeros{}, n.size)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
