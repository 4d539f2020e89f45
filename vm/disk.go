package vm

import (
	"io"
	"os"

	"github.com/belljar/belljar/fault"
)

// OpenDisk is DiskReader's answer for a machine whose disks are files of this host.
func (m Machine) OpenDisk(serial string, n int64) (io.ReadCloser, error) {
	op := "read disk " + serial
	d, ok := m.writable(serial)
	if !ok {
		return nil, fault.New(fault.Usage, op, "machine %s has no writable disk of that serial", m.Name)
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fault.New(fault.Host, op, "%w", err)
	}
	return head{io.LimitReader(f, n), f}, nil
}

// writable finds a disk that the guest may write to.
func (m Machine) writable(serial string) (Disk, bool) {
	for _, d := range m.Disks {
		if d.Serial == serial && !d.ReadOnly {
			return d, true
		}
	}
	return Disk{}, false
}

// head is the beginning of a file.
type head struct {
	io.Reader
	io.Closer
}
