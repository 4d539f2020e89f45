package debian

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"
	"strings"
)

// What a file system and an inode hold.
const (
	maxEntries    = 1 << 20 // of a package
	maxPathLength = 4096    // PATH_MAX
	maxNameLength = 255     // NAME_MAX
	maxOwner      = 1<<32 - 2
	maxMajor      = 1<<12 - 1 // the kernel's dev_t (include/linux/kdev_t.h)
	maxMinor      = 1<<20 - 1
)

// checkEntry refuses what a header may declare and no file system holds. A folder may come twice, as for dpkg; of a
// file, dpkg would take the last one and list it twice, but no tool that packs a tree makes such an archive.
func (d *Deb) checkEntry(h *tar.Header) error {
	before, again := d.seen[h.Name]
	switch {
	case again && (before != tar.TypeDir || h.Typeflag != tar.TypeDir):
		return fmt.Errorf("%s comes twice, want each path once", h.Name)
	case len(d.seen) >= maxEntries:
		return fmt.Errorf("it has more than %d entries", maxEntries)
	case h.Size > maxUnpacked:
		return fmt.Errorf("%s declares %d bytes, more than the bound of %d", h.Name, h.Size, maxUnpacked)
	case h.Uid < 0 || h.Uid > maxOwner || h.Gid < 0 || h.Gid > maxOwner:
		return fmt.Errorf("%s has the owner %d:%d, want numbers up to %d", h.Name, h.Uid, h.Gid, maxOwner)
	case h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor:
		return fmt.Errorf("%s is the device %d:%d, want numbers up to %d:%d",
			h.Name, h.Devmajor, h.Devminor, maxMajor, maxMinor)
	}
	return nil
}

// cleanPath checks a tar entry's name and makes it relative to the root: "./usr/bin/" is "usr/bin", "./" is ".".
func cleanPath(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("an entry has an empty path")
	case strings.ContainsAny(name, "\x00\n"):
		return "", fmt.Errorf("the path %.80q has a NUL or a line end in it", name)
	case len(name) >= maxPathLength:
		return "", fmt.Errorf("the path %.80q… has %d bytes, want less than %d", name, len(name), maxPathLength)
	case strings.HasPrefix(name, "/"):
		return "", fmt.Errorf("the path %q is absolute, want one relative to the root", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("the path %q climbs with '..', want one below the root", name)
		}
		if len(part) > maxNameLength {
			return "", fmt.Errorf("the path %.80q… has a name of %d bytes in it, want at most %d",
				name, len(part), maxNameLength)
		}
	}
	return path.Clean(name), nil
}

func typeName(h *tar.Header) string {
	names := map[byte]string{
		tar.TypeReg: "a regular file", tar.TypeLink: "a hard link", tar.TypeSymlink: "a symbolic link",
		tar.TypeChar: "a character device", tar.TypeBlock: "a block device", tar.TypeDir: "a folder",
		tar.TypeFifo: "a FIFO", tar.TypeGNUSparse: "a sparse file", tar.TypeXGlobalHeader: "a pax header",
	}
	if n, ok := names[h.Typeflag]; ok {
		return n
	}
	return fmt.Sprintf("of the unknown type %q", h.Typeflag)
}

func orStart(entry string) string {
	if entry == "" {
		return "its start"
	}
	return entry
}
