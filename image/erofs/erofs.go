// Package erofs writes and reads EROFS, the read-only file system of the Linux kernel
// (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h), uncompressed and without mounting anything.
//
// It knows the format: inodes, directories, extended attributes, where contents lie, and that a file with several
// names is one inode. The writer lays an image out from the metadata alone and then brings each content straight to
// its place, several side by side; the same tree gives the same bytes. The reader takes what Write makes and what
// mkfs.erofs makes without compression, and trusts nothing that it reads.
//
// It refuses to know compression, files in chunks, images spread over several devices, and what the files mean.
package erofs

import (
	"fmt"
	"io"
	"strings"
)

// BlockSize is the size of the blocks that Write makes. Before Linux 6.4 it had to be that of a page.
const (
	BlockSize = 1 << blockBits
	blockBits = 12
)

func roundUp(size int64) int64 { return (size + BlockSize - 1) / BlockSize * BlockSize }

// Node is an inode. One Node under several names is one file with as many hard links; a folder has one name.
type Node struct {
	Mode     uint32 // type, set-id and permission bits, as in stat(2)
	UID, GID uint32
	Mtime    int64             // seconds since 1970
	Rdev     uint32            // of a device, as new_encode_dev of include/linux/kdev_t.h has it
	Size     int64             // of a regular file
	Data     func() io.Reader  // its content, exactly Size bytes, closed if it can be; or Zeros
	Link     string            // target of a symbolic link
	Xattrs   map[string]string // by full name, such as security.capability
	Children map[string]*Node  // of a folder

	Nid uint64 // the inode's number in the image that it was read from; Write does not look at it
}

// Zeros is the content of a file of any size that is one hole: Write leaves out its blocks.
func Zeros() io.Reader { return zeros{} }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Type bits of Node.Mode, as in stat(2).
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

// fileTypes are the types as a directory entry names them: FT_* of include/linux/fs_types.h.
var fileTypes = map[uint32]uint8{
	typeFile: 1, typeDir: 2, typeChar: 3, typeBlock: 4, typeFifo: 5, typeSocket: 6, typeLink: 7,
}

func (n *Node) is(kind uint32) bool { return n.Mode&typeMask == kind }

const (
	maxName = 255  // EROFS_NAME_LEN
	maxLink = 4095 // PATH_MAX without the closing NUL
)

// checkName refuses what cannot be the name of a file in a folder.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q cannot be the name of a file", name)
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes, want at most %d: %.40s…", len(name), maxName, name)
	}
	return nil
}

// checkLink refuses what no kernel would take for the target of a symbolic link.
func checkLink(target string) error {
	if target == "" || len(target) > maxLink || strings.Contains(target, "\x00") {
		return fmt.Errorf("a symbolic link with a target of %d bytes, want 1 to %d and none of them NUL",
			len(target), maxLink)
	}
	return nil
}
