// Look runs in the test's guest and tells what the kernel sees of a mounted tree: a line of JSON for each file, and
// one for each long folder instead of its files.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

type seen struct {
	Path              string
	Mode, Nlink       uint32
	UID, GID          uint32
	Mtime, Size, Rdev int64
	Inode             uint64
	Link              string            `json:",omitempty"`
	Sum               string            `json:",omitempty"` // SHA-256 of the content; of a huge file of its last bytes
	Xattrs            map[string]string `json:",omitempty"`
	Names             int               `json:",omitempty"` // in a long folder
}

const (
	long = 100
	huge = 1 << 30
	tail = 4097
)

func main() {
	if err := look(os.Args[1], "/"); err != nil {
		fmt.Println("look:", err)
		os.Exit(1)
	}
	fmt.Println("look: done")
}

func look(root, path string) error {
	s, err := stat(root, path)
	if err != nil {
		return err
	}
	if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return show(s)
	}
	entries, err := os.ReadDir(filepath.Join(root, path))
	if err != nil {
		return err
	}
	if len(entries) < long {
		if err := show(s); err != nil {
			return err
		}
		for _, e := range entries {
			if err := look(root, filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	sum := sha256.New()
	for _, e := range entries { // each is looked up by its name, as the kernel does it: by bisection
		one, err := stat(root, filepath.Join(path, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, e.Name(), one.Inode)
	}
	s.Names, s.Sum = len(entries), hex.EncodeToString(sum.Sum(nil))
	return show(s)
}

func show(s *seen) error {
	line, err := json.Marshal(s)
	fmt.Printf("look: %s\n", line)
	return err
}

func stat(root, path string) (*seen, error) {
	at := filepath.Join(root, path)
	var st syscall.Stat_t
	if err := syscall.Lstat(at, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &seen{
		Path: path, Mode: st.Mode, Nlink: uint32(st.Nlink), UID: st.Uid, GID: st.Gid, Mtime: int64(st.Mtim.Sec),
		Size: st.Size, Rdev: int64(st.Rdev), Inode: st.Ino,
	}
	var err error
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		s.Link, err = os.Readlink(at)
		return s, err
	case syscall.S_IFREG:
		s.Sum, err = digest(at, st.Size)
	}
	if err != nil {
		return nil, err
	}
	s.Xattrs, err = xattrs(at)
	return s, err
}

func digest(at string, size int64) (string, error) {
	f, err := os.Open(at)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if size > huge {
		if _, err := f.Seek(-tail, io.SeekEnd); err != nil {
			return "", err
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func xattrs(at string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := syscall.Listxattr(at, list)
	if err != nil || n == 0 {
		return nil, err
	}
	out := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := syscall.Getxattr(at, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", at, name, err)
		}
		sum := sha256.Sum256(value[:n])
		out[name] = fmt.Sprintf("%d %x", n, sum[:8])
	}
	return out, nil
}
