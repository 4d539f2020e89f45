package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// hostFault classifies what the operating system said about a file in dir; need is how many bytes were to be
// written, -1 if nobody knows.
func hostFault(op, dir string, need int64, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Host, op, "disk full: %s has %s free, %s needed: %w",
			dir, freeText(dir), needText(need), err).
			WithRemedy("Free space there (belljar clean removes what no spec needs), or keep the store on a " +
				"larger disk.")
	case errors.Is(err, unix.EFBIG):
		return fault.New(fault.Host, op, "file too large for %s (%s needed): %w", dir, needText(need), err).
			WithRemedy("Raise the limit on file size (ulimit -f), or keep the store on a file system that holds " +
				"larger files.")
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Host, op, "user %d may not write in %s: %w", os.Getuid(), dir, err).
			WithRemedy("Make the folder yours (chown), or keep the store elsewhere.")
	case errors.Is(err, unix.EROFS):
		return fault.New(fault.Host, op, "%s is on a read-only file system: %w", dir, err).
			WithRemedy("Keep the store on a file system that can be written.")
	case errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.Host, op, "%s, or a folder above it, is a file: %w", dir, err).
			WithRemedy("Name a folder for the store.")
	case errors.Is(err, unix.EIO):
		return fault.New(fault.Host, op, "%w", err).WithRemedy("The disk under %s reports errors: look at dmesg.", dir)
	}
	return fault.New(fault.Host, op, "%w", err)
}

func freeText(dir string) string {
	free, err := freeBytes(dir)
	if err != nil {
		return "an unknown number of bytes"
	}
	return fmt.Sprintf("%d bytes", free)
}

func needText(need int64) string {
	if need < 0 {
		return "more"
	}
	return fmt.Sprintf("%d bytes", need)
}

// freeBytes is what an unprivileged user may still write on dir's file system.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
