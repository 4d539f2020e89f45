package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// findOutput lists the members of one of a stage's outputs: a file, or a folder with all that is in it.
func findOutput(root *os.Root, name string) ([]stream.Member, error) {
	file := strings.TrimSuffix(name, "/")
	info, err := root.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, badOutput("output %s is missing: the script ended well but did not make it", name)
	case err != nil:
		return nil, badOutput("output %s: %v", name, err)
	case wire.IsTree(name) && info.IsDir():
		return findTree(root, file)
	case wire.IsTree(name):
		return nil, badOutput("output %s is not a folder but %s", name, kindOf(info.Mode()))
	case info.IsDir():
		return nil, badOutput("output %s is not a regular file but a folder: the folder as a whole is named %s/", name, name)
	case info.Mode().Type() == fs.ModeSymlink:
		target, _ := root.Readlink(file)
		return nil, badOutput("output %s is not a regular file but a symbolic link, to %s: make it a copy", name, target)
	case !info.Mode().IsRegular():
		return nil, badOutput("output %s is not a regular file but %s", name, kindOf(info.Mode()))
	}
	return []stream.Member{{Path: name, Type: stream.File, Mode: uint32(info.Mode().Perm())}}, nil
}

// tree lists a folder so that two guests that made the same files list the same: in the order of names, with no owner and
// no time, and of the mode only whether a file is a program.
type tree struct {
	root    *os.Root
	top     string
	members []stream.Member
	links   map[[2]uint64]string // the first name of each file with several
}

func findTree(root *os.Root, top string) ([]stream.Member, error) {
	t := &tree{root: root, top: top, links: map[[2]uint64]string{}}
	err := fs.WalkDir(root.FS(), top, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return t.visit(name)
	})
	return t.members, err
}

func (t *tree) visit(name string) error {
	if err := wire.CheckPath(name); err != nil {
		return badOutput("output %s/: %v", t.top, err)
	}
	info, err := t.root.Lstat(name)
	if err != nil {
		return err
	}
	m := stream.Member{Path: name, Type: stream.File, Mode: 0o644}
	switch {
	case info.IsDir():
		m.Type, m.Mode = stream.Dir, 0o755
	case info.Mode().Type() == fs.ModeSymlink:
		m.Type, m.Mode = stream.Symlink, 0o777
		if m.Link, err = t.link(name); err != nil {
			return err
		}
	case !info.Mode().IsRegular():
		return badOutput("output %s/: %s is %s: a folder may hold folders, regular files and symbolic links",
			t.top, name, kindOf(info.Mode()))
	case info.Mode()&0o100 != 0:
		m.Mode = 0o755
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && m.Type == stream.File && st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, seen := t.links[id]; seen {
			m.Type, m.Link = stream.HardLink, first
		} else {
			t.links[id] = name
		}
	}
	t.members = append(t.members, m)
	return nil
}

// link reads a symbolic link, which must stay within the folder wherever that is laid: relative, and not above its top.
func (t *tree) link(name string) (string, error) {
	target, err := t.root.Readlink(name)
	if err != nil {
		return "", err
	}
	if wire.LeadsOut(strings.TrimPrefix(name, t.top+"/"), target) {
		return "", badOutput("output %s/: the link %s leads out of the folder, to %s", t.top, name, target)
	}
	return target, nil
}

// kindOf says what a file is that is no regular one.
func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "a folder"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a FIFO"
	case fs.ModeSocket:
		return "a socket"
	case 0:
		return "a regular file"
	}
	return "a device"
}
