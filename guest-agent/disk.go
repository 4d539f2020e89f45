package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// openDisk opens the disk with a serial number for writing, past the page cache: whole aligned blocks only. A disk that
// is mounted or open elsewhere is refused (open(2): O_EXCL on a block device).
func (j *jar) openDisk(serial string) (*os.File, error) {
	if serial == "" || serial != filepath.Base(serial) {
		return nil, fmt.Errorf("disk %q: not a serial number", serial)
	}
	if j.disks != "" {
		return os.OpenFile(filepath.Join(j.disks, serial), os.O_WRONLY, 0)
	}
	dev, err := findDisk("/sys/block", serial)
	if err != nil {
		return nil, err
	}
	return os.OpenFile("/dev/"+dev, os.O_WRONLY|unix.O_EXCL|unix.O_DIRECT, 0)
}

// findDisk is the name of the block device whose serial is as given: virtio-blk shows it in its own folder, SCSI and
// ATA do not (Documentation/ABI/stable/sysfs-block).
func findDisk(sys, serial string) (string, error) {
	names, err := filepath.Glob(filepath.Join(sys, "*", "serial"))
	if err != nil {
		return "", err
	}
	var found []string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		got := strings.TrimSpace(string(b))
		if got == serial {
			return filepath.Base(filepath.Dir(name)), nil
		}
		found = append(found, got)
	}
	return "", fmt.Errorf("no disk has the serial %q (there are: %s)", serial, strings.Join(found, ", "))
}

// lowerOf is the folder of the input disk that is meant.
func (s *stager) lowerOf(m wire.Mount) string {
	if m.From == s.jar.inputs || strings.HasPrefix(m.From, s.jar.inputs+"/") {
		return filepath.Clean(m.From)
	}
	return filepath.Join(s.jar.inputs, m.From)
}

// layPrivate lays a folder of the input disk at m.To so that the stage can change it and the input disk stays as it
// is: by an overlay, or by a copy where no overlay can be had.
func (s *stager) layPrivate(i int, m wire.Mount, root bool) error {
	lower := s.lowerOf(m)
	if st, err := os.Stat(lower); err != nil {
		return fmt.Errorf("not on the input disk: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s on the input disk is not a folder", m.From)
	}
	if err := s.makeDir(m.To, root); err != nil {
		return err
	}
	own := fmt.Sprintf("%s/%d", s.uppers(), i)
	upper, work := own+"/upper", own+"/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// The upper directory's own mode and owner are those of the mount's root.
	if err := copyMeta(lower, upper); err != nil {
		return err
	}
	if err := overlay(lower, upper, work, m.To); err == nil {
		s.mounts = append(s.mounts, m.To)
	} else {
		fmt.Fprintf(os.Stderr, "agent: overlay at %s: %v; copying\n", m.To, err)
		if err := os.RemoveAll(own); err != nil {
			return err
		}
		if err := clearDir(m.To); err != nil {
			return err
		}
		if err := copyTree(lower, m.To); err != nil {
			return err
		}
	}
	if root || s.jar.user == nil {
		return nil
	}
	return giveTo(m.To, int(s.jar.user.Uid), int(s.jar.user.Gid))
}

// overlay mounts one (Documentation/filesystems/overlayfs.rst). metacopy and redirect_dir keep a change of owner and a
// renamed folder from copying what lies below; a filesystem that cannot have them gets the plain kind.
func overlay(lower, upper, work, to string) error {
	for _, dir := range []string{lower, upper, work} {
		if strings.ContainsAny(dir, `,:\`) {
			return fmt.Errorf("%s cannot be said in mount options", dir)
		}
	}
	opts := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	err := unix.Mount("overlay", to, "overlay", unix.MS_NODEV|unix.MS_NOSUID, opts+",redirect_dir=on,metacopy=on")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", to, "overlay", unix.MS_NODEV|unix.MS_NOSUID, opts)
	}
	return err
}

func unmount(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	// EINVAL: no mount point (any more).
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", dir, err)
}

// giveTo makes a source the stage's own. An input disk that was made with the right owner costs one look: the owner
// of its top folder speaks for all.
func giveTo(dir string, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies folders, regular files and symlinks; a source has nothing else.
func copyTree(from, to string) error {
	var dirs []string
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			dirs = append(dirs, rel)
			if err := os.Mkdir(dst, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, dst); err != nil {
				return err
			}
		case e.Type().IsRegular():
			if err := copyFile(path, dst); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is %s, which a source cannot have", path, e.Type())
		}
		return copyMeta(path, dst)
	})
	// Folders last, innermost first: what was written into them changed their times.
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = copyMeta(filepath.Join(from, dirs[i]), filepath.Join(to, dirs[i]))
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// copyMeta gives to the owner, mode and time of from.
func copyMeta(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil && os.Getuid() == 0 {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK { // after chown, which takes setuid away
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
	}
	times := []unix.Timespec{st.Mtim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW)
}
