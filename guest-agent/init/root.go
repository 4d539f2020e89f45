package main

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// mount is one of mount(2).
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

// kernelFiles are where the kernel shows itself.
var kernelFiles = []mount{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sys", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"dev", "/dev", "devtmpfs", 0, "mode=755"},
}

// overRoot are laid over the root when it stands. What was mounted before moves along.
var overRoot = []mount{
	{"/belljar", "/root/belljar", "", unix.MS_MOVE, ""},
	{"/proc", "/root/proc", "", unix.MS_MOVE, ""},
	{"/sys", "/root/sys", "", unix.MS_MOVE, ""},
	{"/dev", "/root/dev", "", unix.MS_MOVE, ""},
	{"devpts", "/root/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666"},
	{"shm", "/root/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"run", "/root/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	{"tmp", "/root/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=75%"},
}

// mountAll mounts one after another. A folder in /dev is made.
func mountAll(all []mount) error {
	for _, m := range all {
		if m.kind == "devpts" || m.source == "shm" {
			if err := os.Mkdir(m.target, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fail("mount "+or(m.kind, m.source)+" at "+m.target, err)
		}
	}
	return nil
}

// layRoot puts together at /root what the guest is to have as its root.
func layRoot(l layout, verity string) error {
	device := "/dev/" + l.part
	if verity != "" {
		if err := checkRoot(device, "/dev/"+l.hashes, verity); err != nil {
			return fail("image: no dm-verity over "+l.part, err)
		}
		device = "/dev/dm-0"
	}
	for _, dir := range []string{"lower", "overlay", "overlay/upper", "overlay/work"} {
		if err := os.Mkdir("/belljar/"+dir, 0o755); err != nil {
			return err
		}
	}
	// No redirects and no metadata-only copies: what is in the upper layer must be readable without the lower one.
	return mountAll([]mount{
		{device, "/belljar/lower", "erofs", unix.MS_RDONLY, ""},
		{"root", "/root", "overlay", 0, "lowerdir=/belljar/lower,upperdir=/belljar/overlay/upper,workdir=/belljar/overlay/work," +
			"redirect_dir=off,metacopy=off,index=off,xino=off"},
	})
}

// moveIn copies to /belljar what lives on: the shell and process 1, the agent and this run's own files, if there are any.
func moveIn() error {
	for from, to := range map[string]string{"/bin": "bin", "/pid1": "init", "/agent": "agent", "/run-files": "."} {
		if err := copyTree(from, "/belljar/"+to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyTree copies a file, a symbolic link or a folder with what is in it.
func copyTree(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if err := os.Mkdir(to, info.Mode().Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range names(from) {
			if err := copyTree(from+"/"+name, to+"/"+name); err != nil {
				return err
			}
		}
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	return copyFile(from, to, info.Mode().Perm())
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// switchRoot makes dir the root and turns into the program: what busybox's switch_root does, but that what was the root
// is emptied by the process that stays in it (loadBehind).
func switchRoot(dir, program string, args ...string) error {
	if err := unix.Chdir(dir); err != nil {
		return fail("switch root", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fail("switch root", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fail("switch root", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fail("switch root", err)
	}
	return fail("exec "+program, unix.Exec(program, append([]string{program}, args...), os.Environ()))
}

// empty deletes what is in a folder, but nothing on another file system.
func empty(dir string) error {
	var here, there unix.Stat_t
	if err := unix.Lstat(dir, &here); err != nil {
		return err
	}
	for _, name := range names(dir) {
		path := dir + "/" + name
		if err := unix.Lstat(path, &there); err != nil {
			return err
		}
		if there.Dev != here.Dev {
			continue
		}
		if there.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := empty(path); err != nil {
				return err
			}
			_ = unix.Rmdir(path) // one in which something is mounted stays
			continue
		}
		if err := unix.Unlink(path); err != nil {
			return err
		}
	}
	return nil
}
