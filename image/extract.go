package image

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// ExtractFile writes one file of a package ("bin/busybox", with or without usr/) to a path on the host.
func ExtractFile(deb io.Reader, name, to string) error {
	d, err := debian.OpenDeb(deb)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Input, "extract "+name, "the package has no such file")
		}
		if err != nil {
			return err
		}
		if h.Name != name && h.Name != "usr/"+name {
			continue
		}
		return writeWhole(to, 0o755, d)
	}
}

// writeWhole puts what r reads at a path of the host: all of it or nothing.
func writeWhole(to string, mode os.FileMode, r io.Reader) (err error) {
	defer func() { err = diskFault("write "+to, filepath.Dir(to), err) }()
	return atomicfile.WriteFunc(to, mode, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}
