package image

import (
	"errors"
	"io"
	"os"

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
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, d); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
}
