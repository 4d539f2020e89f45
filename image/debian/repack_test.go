package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// disk is an io.WriterAt in memory that fails where it is told to.
type disk struct {
	b    []byte
	full int // bytes that it takes; 0: any number
}

var errFull = errors.New("no space left")

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	end := int(off) + len(p)
	if d.full > 0 && end > d.full {
		return 0, errFull
	}
	if end > len(d.b) {
		d.b = append(d.b, make([]byte, end-len(d.b))...)
	}
	return copy(d.b[off:], p), nil
}

// listing is all that a package brings, as text.
func listing(t *testing.T, d *Deb) string {
	t.Helper()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(d.Control())) {
		fmt.Fprintf(&b, "%s %v %q\n", name, d.ControlMode(name), d.Control()[name])
	}
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%c %s %s %o %d:%d %s %q\n", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.ModTime, data)
	}
}

func mustOpen(t *testing.T, data []byte) *Deb {
	t.Helper()
	d, err := OpenDeb(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRepack(t *testing.T) {
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		original := goodDeb(t, compression)
		want := listing(t, mustOpen(t, original))
		d := mustOpen(t, original)
		if got, want := d.WorthRepacking(), compression == "gz" || compression == "xz"; got != want {
			t.Errorf("%q: worth it is %t", compression, got)
		}
		var out disk
		again := d.Repack(&out)
		if got := listing(t, d); got != want {
			t.Errorf("%q: while it is repacked it reads\n%s, want\n%s", compression, got, want)
		}
		if err := again.Finish(); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, mustOpen(t, out.b)); got != want {
			t.Errorf("%q: repacked it reads\n%s, want\n%s", compression, got, want)
		}
		if !bytes.Contains(out.b, []byte("data.tar.zst")) {
			t.Errorf("%q: no data.tar.zst in it", compression)
		}
	}
}

func TestRepackThatIsNotWhole(t *testing.T) {
	d := mustOpen(t, goodDeb(t, "xz"))
	var out disk
	again := d.Repack(&out)
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	if err := again.Finish(); err == nil {
		t.Error("a package that was not read to its end: no error")
	}
	if _, err := OpenDeb(bytes.NewReader(out.b)); err == nil {
		t.Error("what is there of it passes for a package")
	}

	original := goodDeb(t, "xz")
	want := listing(t, mustOpen(t, original))
	for full := 1; full < 400; full += 30 {
		d := mustOpen(t, original)
		again := d.Repack(&disk{full: full})
		if got := listing(t, d); got != want {
			t.Errorf("a disk that is full at %d: the package reads\n%s", full, got)
		}
		if err := again.Finish(); !errors.Is(err, errFull) {
			t.Errorf("a disk that is full at %d: %v, want %v", full, err, errFull)
		}
	}
}
