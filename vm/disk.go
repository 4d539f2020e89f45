package vm

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// OpenDisk is DiskReader's answer for a machine whose disks are files of this host.
func (m Machine) OpenDisk(serial string, n int64) (io.ReadCloser, error) {
	op := "read disk " + serial
	d, err := m.writable(op, serial)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fault.New(fault.Host, op, "%w", err)
	}
	return head{io.LimitReader(f, n), f}, nil
}

// FollowDisk is DiskFollower's answer for a machine whose disks are files of this host.
func (m Machine) FollowDisk(serial string) (FollowedDisk, error) {
	op := "follow disk " + serial
	d, err := m.writable(op, serial)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, fault.New(fault.Host, op, "%w", err)
	}
	return followed{f}, nil
}

// followed is a file that a guest writes to.
type followed struct{ *os.File }

// Discard makes a hole of what was read: its pages in memory are free for what comes, and none of it is ever written to
// the host's own disk (fallocate(2)). A filesystem without holes keeps it.
func (f followed) Discard(n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// writable finds a disk that the guest may write to.
func (m Machine) writable(op, serial string) (Disk, error) {
	for _, d := range m.Disks {
		if d.Serial == serial && !d.ReadOnly {
			return d, nil
		}
	}
	return Disk{}, fault.New(fault.Usage, op, "machine %s has no writable disk of that serial", m.Name)
}

// head is the beginning of a file.
type head struct {
	io.Reader
	io.Closer
}
