package image

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/belljar/belljar/fault"
)

// FuzzOpen opens foreign bytes. What cannot be read is an input fault with a remedy; what can be read is listed, read to
// the end and compared with itself, and is the same.
func FuzzOpen(f *testing.F) {
	const status = "Package: x\nVersion: 1\nArchitecture: all\n"
	small := newTree()
	for _, put := range []struct {
		name string
		n    *node
	}{
		{"usr/bin/x", &node{mode: typeFile | 0o4755, size: 3, data: inMemory([]byte("abc"))}},
		{"bin", &node{mode: typeLink | 0o777, link: "usr/bin"}},
		{"dev/null", &node{mode: typeChar | 0o666, rdev: encodeDev(1, 3), xattrs: map[string]string{"user.x": "y"}}},
		{dpkgDir + "status", &node{mode: typeFile | 0o644, size: int64(len(status)), data: inMemory([]byte(status))}},
		{dpkgDir + "info/x.list", &node{mode: typeFile | 0o644, size: 11, data: inMemory([]byte("/.\n/bin/x\n/"))}},
	} {
		if err := small.put(put.name, put.n); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(erofsOf(f, small))
	f.Add(tarOf(f, small))
	f.Add(gzipped(f, tarOf(f, small)))
	f.Add(smallDisk(f, 512))
	f.Add(smallDisk(f, 4096))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Open(context.Background(), "fuzz", bytes.NewReader(data), int64(len(data)), t.TempDir())
		if err != nil {
			if e := fault.Chain(err); len(e) == 0 || e[0].Kind != fault.Input || e[len(e)-1].Remedy == "" {
				t.Fatalf("not an input fault with a remedy: %v", err)
			}
			return
		}
		defer m.Close()
		m.Inspect()
		files, err := m.List("/", true)
		if err != nil {
			return
		}
		left := int64(8 << 20)
		for _, file := range files {
			if left -= file.Size; left < 0 {
				return
			}
			if file.Type != TypeFile {
				continue
			}
			_, r, err := m.OpenFile(file.Path)
			if err != nil {
				t.Fatalf("%s was listed: %v", file.Path, err)
			}
			if n, err := io.Copy(io.Discard, r); err == nil && n > file.Size {
				t.Fatalf("%s has %d bytes, %d were told", file.Path, n, file.Size)
			}
		}
		if d, err := Compare(context.Background(), m, m, DiffOptions{MTime: true}); err == nil && !d.Same {
			t.Fatalf("differs from itself: %+v", d)
		}
	})
}

// smallDisk is a disk with a GPT, of sectors of that size, with two partitions of no content.
func smallDisk(f *testing.F, sector int) []byte {
	disk := make([]byte, 40*sector)
	g := gptBuilder{disk: disk, sector: sector}
	g.entry(0, 0x0f, 34, 35, "root")
	g.entry(1, 0xc1, 36, 36, "esp")
	g.finish()
	if _, parts, note, err := readPartitions(bytes.NewReader(disk), int64(len(disk))); err != nil || note != "" || len(parts) != 2 {
		f.Fatalf("%v, %q, %v", parts, note, err)
	}
	return disk
}
