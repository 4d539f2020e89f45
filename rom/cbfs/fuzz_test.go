package cbfs_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/romtest"
)

// FuzzRead reads foreign bytes as a CBFS: its files lie within it, one after the other, and what is in them can be read or is
// an input fault.
func FuzzRead(f *testing.F) {
	f.Add(small())
	f.Add(romtest.CBFS(1<<12,
		romtest.File{Name: "a", Type: romtest.Stage, Data: packed(f, 1, code[:200]), Attributes: romtest.Compression(1, 200)},
		romtest.File{Name: "b", Data: packed(f, 2, code[:200]), Attributes: romtest.Compression(2, 200)},
		romtest.File{Name: "c", Data: packed(f, 3, code[:200]), Attributes: romtest.Compression(3, 200)},
		romtest.File{Name: "d", Type: 0x10, Data: make([]byte, 40)},
		*payload(romtest.Segments(0xe0000, romtest.Segment{Kind: "CODE", Compression: 1, Data: packed(f, 1, code[:200]), Memory: 200}))))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if _, _, _, err := cbfs.MasterHeader(r, int64(len(data))); err != nil {
			t.Fatal(err)
		}
		a, err := cbfs.Read(r, 0, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		for _, file := range a.Files {
			if file.Offset < end || file.Data < file.Offset || file.Data+file.Size > int64(len(data)) {
				t.Fatalf("%+v, the one before ends at 0x%x", file, end)
			}
			end = file.Data + file.Size
			if _, err := file.Check(); err != nil {
				t.Fatal(err)
			}
			foreign(t, file.Open)
			segments, err := file.Segments()
			inputFault(t, err)
			for _, s := range segments {
				foreign(t, s.Open)
			}
		}
	})
}

func foreign(t *testing.T, open func() (io.Reader, error)) {
	t.Helper()
	r, err := open()
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	}
	inputFault(t, err)
}

func inputFault(t *testing.T, err error) {
	t.Helper()
	if err != nil && fault.KindOf(err) != fault.Input {
		t.Fatalf("not an input fault: %v", err)
	}
}
