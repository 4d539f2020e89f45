package fulldisk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What fits is written, what does not fails as the kernel says, and with room it is written too.
func TestFullDisk(t *testing.T) {
	Each(t, func(t *testing.T, d *Disk) {
		write := func(name string, size int) error {
			return os.WriteFile(filepath.Join(d.Dir, name), make([]byte, size), 0o600)
		}
		if err := write("before", 1<<20); err != nil {
			t.Fatal(err)
		}
		d.Leave(64 << 10)
		if err := write("fits", 64<<10); err != nil {
			t.Error(err)
		}
		want := map[How]error{Tmpfs: unix.ENOSPC, Limit: unix.EFBIG}[d.How]
		if err := write("large", 1<<20); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		d.MakeRoom()
		if err := write("large", 1<<20); err != nil {
			t.Error(err)
		}
	})
}
