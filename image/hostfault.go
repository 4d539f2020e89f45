package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// diskFault sees to it that what a disk refused is told as the host's fault, with the folder and a remedy, however
// deep in the writing of an image it happened. All other errors pass as they are.
func diskFault(op, dir string, err error) error {
	if err == nil || told(err) {
		return err
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Host, op, "disk full: %s has %s free: %w", dir, freeText(dir), err).
			WithRemedy("Make room on the disk of %s ('belljar clean' removes what no spec needs), or work in another "+
				"folder (--dir).", dir)
	case errors.Is(err, unix.EFBIG):
		return fault.New(fault.Host, op, "file too large for %s: %w", dir, err).
			WithRemedy("Raise the limit on a file's size (ulimit -f), or work in another folder (--dir), on a file " +
				"system that holds larger files.")
	case errors.Is(err, unix.EROFS), errors.Is(err, os.ErrPermission):
		//nolint:forbidigo // said to people alone
		return fault.New(fault.Host, op, "user %d may not write in %s: %w", os.Getuid(), dir, err).
			WithRemedy("Make the folder yours (chown), or work in another one (--dir).")
	case errors.Is(err, unix.EIO):
		return fault.New(fault.Host, op, "the disk of %s reports errors: %w", dir, err).
			WithRemedy("Look at dmesg, and work on another disk (--dir).")
	}
	return err
}

// told reports whether err is a host fault that says already how to mend it.
func told(err error) bool {
	if fault.KindOf(err) != fault.Host {
		return false
	}
	for _, e := range fault.Chain(err) {
		if e.Remedy != "" {
			return true
		}
	}
	return false
}

// freeText is what an unprivileged user may still write in dir (statfs(2)).
func freeText(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "an unknown number of bytes"
	}
	return fmt.Sprintf("%d bytes", int64(st.Bavail)*st.Bsize)
}

// folderOf is the folder that a full disk is told by.
func folderOf(f *os.File) string { return filepath.Dir(f.Name()) }
