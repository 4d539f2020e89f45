package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// capturer writes an overlay's upper directory as an archive: what the guest changed of its root.
// The marks of overlayfs (Documentation/filesystems/overlayfs.rst) stay what they are: a whiteout is a character
// device 0:0, an opaque folder has the attribute trusted.overlay.opaque.
type capturer struct {
	req   *wire.Capture
	tw    *tar.Writer
	links map[[2]uint64]string // first name of each file with several
	got   *wire.Captured
}

func capture(ctx context.Context, j *jar, req *wire.Capture) (*wire.Captured, error) {
	for _, pattern := range req.Exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("exclude %q: %w", pattern, err)
		}
	}
	unix.Sync()
	c := &capturer{req: req, links: map[[2]uint64]string{}, got: &wire.Captured{}}
	var err error
	c.got.Stream, err = writeArchive(ctx, j, req.Device, func(tw *tar.Writer) error {
		c.tw = tw
		// WalkDir's order is the names' in each folder, whatever the filesystem's.
		return filepath.WalkDir(req.Upper, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return c.visit(p)
		})
	})
	sort.Strings(c.got.Skipped)
	return c.got, err
}

func (c *capturer) visit(p string) error {
	rel, err := filepath.Rel(c.req.Upper, p)
	if err != nil || rel == "." {
		return err // the root folder itself is the lower layer's
	}
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if c.excluded(rel) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fs.SkipDir
		}
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		c.got.Skipped = append(c.got.Skipped, rel)
		return nil
	}
	h, err := c.header(p, rel, &st)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := c.write(p, h); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	c.got.Entries++
	return nil
}

func (c *capturer) excluded(rel string) bool {
	for _, pattern := range c.req.Exclude {
		if ok, _ := path.Match(strings.Trim(pattern, "/"), rel); ok {
			return true
		}
	}
	return false
}

func (c *capturer) write(p string, h *tar.Header) error {
	if h.Typeflag != tar.TypeReg {
		return addMember(c.tw, h, nil)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return addMember(c.tw, h, f)
}

func (c *capturer) header(p, rel string, st *unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{
		Name: rel, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: c.time(st),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, rel+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		target, err := os.Readlink(p)
		if err != nil {
			return nil, err
		}
		h.Linkname = target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, fmt.Errorf("file of unknown type %o", st.Mode&unix.S_IFMT)
	}
	// Whiteouts may all be links of one inode; each stands for its own name.
	if st.Nlink > 1 && h.Typeflag != tar.TypeDir && !whiteout(h) {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size, h.Devmajor, h.Devminor = tar.TypeLink, first, 0, 0, 0
			return h, nil
		}
		c.links[id] = rel
	}
	if whiteout(h) {
		h.Mode, h.Uid, h.Gid, h.ModTime = 0, 0, 0, time.Time{} // means nothing, and must not differ
		return h, nil
	}
	return h, c.attributes(p, h)
}

func whiteout(h *tar.Header) bool {
	return h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0
}

// time is the mtime in whole seconds, not later than the guest's clock was at power-on.
func (c *capturer) time(st *unix.Stat_t) time.Time {
	t := time.Unix(int64(st.Mtim.Sec), 0) //nolint:unconvert // 32 bits wide on i386
	if !c.req.Clock.IsZero() && t.After(c.req.Clock) {
		t = c.req.Clock.Truncate(time.Second)
	}
	return t
}

// attributes adds the extended attributes as pax records, as GNU tar, star and bsdtar name them.
func (c *capturer) attributes(p string, h *tar.Header) error {
	names, err := listAttributes(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if inner, ok := strings.CutPrefix(name, "trusted.overlay."); ok {
			switch inner {
			case "opaque":
			case "origin", "impure", "nlink", "uuid", "upper", "protattr":
				continue // of this mount alone
			default: // redirect, metacopy: half of the truth is in the lower layer
				return fmt.Errorf(
					"overlay attribute %s: the overlay must be mounted with redirect_dir=off,metacopy=off", name)
			}
		}
		value, err := attribute(p, name)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return nil
}

func listAttributes(p string) ([]string, error) {
	buf := make([]byte, 64<<10) // xattr(7): the greatest list there is
	n, err := unix.Llistxattr(p, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	return strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }), nil
}

func attribute(p, name string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(p, name, buf)
	return string(buf[:max(n, 0)]), err
}
