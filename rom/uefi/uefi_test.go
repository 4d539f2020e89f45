package uefi

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/rom/romtest"
)

func TestVolumes(t *testing.T) {
	code, vars := romtest.Volume(romtest.FFS2, 0x2000), romtest.Volume(romtest.NVData, 0x1000)
	nested := bytes.Clone(code)
	copy(nested[0x1000:], vars)
	unsound := bytes.Clone(code)
	unsound[51]++
	long := romtest.Volume(romtest.FFS2, 0x3000)[:0x2000]
	unknown := romtest.Volume(bytes.Repeat([]byte{7}, 16), 0x1000)
	codeAt := func(at int64) Volume { return Volume{at, 0x2000, "8c8ce578-8a3d-4f1c-9935-896185c32dd3", Code} }
	varsAt := func(at int64) Volume { return Volume{at, 0x1000, "fff12b8d-7696-4c8b-a985-2747075b4f50", Variables} }
	for _, c := range []struct {
		name string
		data []byte
		want []Volume
	}{
		{"none", make([]byte, 1000), nil},
		{"the signature alone", []byte("_FVH at the start, and _FVH later, and far less than a whole header behind _FVH"), nil},
		{"one", code, []Volume{codeAt(0)}},
		{"two", append(bytes.Clone(vars), code...), []Volume{varsAt(0), codeAt(0x1000)}},
		{"one in another", nested, []Volume{codeAt(0)}},
		{"after something else", append(make([]byte, 123), vars...), []Volume{varsAt(123)}},
		{"a wrong sum", unsound, nil},
		{"longer than the file", long, nil},
		{"of another's kind", unknown, []Volume{{0, 0x1000, "07070707-0707-0707-0707-070707070707", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Volumes(bytes.NewReader(c.data), int64(len(c.data)))
			if d := cmp.Diff(c.want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
}

func TestIsOVMF(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"empty": {nil, false},
		"short": {romtest.OVMFEnd()[1:], false},
		"its":   {append(make([]byte, 100), romtest.OVMFEnd()...), true},
		"moved": {append(romtest.OVMFEnd(), 0), false},
	} {
		if got, err := IsOVMF(bytes.NewReader(c.data), int64(len(c.data))); got != c.want || err != nil {
			t.Errorf("%s: %t, %v, want %t", name, got, err, c.want)
		}
	}
}

// FuzzVolumes looks for volumes in foreign bytes: they lie within the file, one after the other.
func FuzzVolumes(f *testing.F) {
	f.Add(romtest.Volume(romtest.NVData, 0x80))
	f.Add(append(romtest.Volume(romtest.NVData, 0x48), romtest.Volume(romtest.FFS2, 0x100)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Volumes(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		for _, v := range all {
			if v.Offset < end || v.Size < headerSize || v.Offset+v.Size > int64(len(data)) {
				t.Fatalf("%+v, the one before ends at 0x%x", v, end)
			}
			end = v.Offset + v.Size
		}
		if _, err := IsOVMF(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
	})
}
