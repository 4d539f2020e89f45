package vm

import (
	"os"

	"github.com/belljar/belljar/fault"
)

// Readable checks that every file of m is there and can be read, whichever backend is to have them. The error is a
// *fault.Error of kind Host and names the file's part in the machine.
func Readable(m Machine) error {
	type file struct{ what, path string }
	files := []file{{"kernel", m.Boot.Kernel}, {"initramfs", m.Boot.Initrd}, {"ROM", m.Boot.ROM}, {"variables", m.Boot.Vars}}
	for _, d := range m.Disks {
		files = append(files, file{"disk " + d.Serial, d.Path})
	}
	for _, f := range files {
		if f.path == "" {
			continue
		}
		h, err := os.Open(f.path)
		if err != nil {
			return fault.New(fault.Host, "preflight "+m.Name, "%s: %w", f.what, err)
		}
		h.Close()
	}
	return nil
}
