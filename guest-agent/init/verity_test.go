package main

import (
	"encoding/binary"
	"strings"
	"testing"
)

// head is a superblock as veritysetup writes it.
func head(change func(b []byte)) []byte {
	b := make([]byte, superblockSize)
	le := binary.LittleEndian
	copy(b, "verity\x00\x00")
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], 4096)
	le.PutUint32(b[68:], 4096)
	le.PutUint64(b[72:], 1000)
	le.PutUint16(b[80:], 2)
	copy(b[88:], "\xab\x0c")
	if change != nil {
		change(b)
	}
	return b
}

const root = "f0c500e2401e1aee33d11ae25ae14e574820fbdb1731670af1888f88f3c17794"

func TestTarget(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		name    string
		change  func(b []byte)
		root    string
		sectors uint64
		want    string // the parameters, or the error after '!'
	}{
		{"4 KiB", nil, root, 8000, "1 /dev/vda1 /dev/vda2 4096 4096 1000 1 sha256 " + root + " ab0c"},
		{"no salt", func(b []byte) { le.PutUint16(b[80:], 0) }, root, 8000,
			"1 /dev/vda1 /dev/vda2 4096 4096 1000 1 sha256 " + root + " -"},
		{"small blocks", func(b []byte) { le.PutUint32(b[64:], 1024); le.PutUint32(b[68:], 512) }, root, 2000,
			"1 /dev/vda1 /dev/vda2 1024 512 1000 1 sha256 " + root + " ab0c"},
		{"no superblock", func(b []byte) { b[0] = 'V' }, root, 0, "!no dm-verity superblock"},
		{"version 2", func(b []byte) { b[8] = 2 }, root, 0, "!version 1"},
		{"Chrome OS's hash type", func(b []byte) { b[12] = 0 }, root, 0, "!hash type 1"},
		{"blanks in the algorithm", func(b []byte) { copy(b[32:], "sha256 1 /dev/x") }, root, 0, "!hash algorithm"},
		{"no algorithm", func(b []byte) { clear(b[32:64]) }, root, 0, "!hash algorithm"},
		{"odd block", func(b []byte) { le.PutUint32(b[64:], 4095) }, root, 0, "!power of two"},
		{"no data", func(b []byte) { le.PutUint64(b[72:], 0) }, root, 0, "!out of range"},
		{"too much data", func(b []byte) { le.PutUint64(b[72:], 1<<60) }, root, 0, "!out of range"},
		{"long salt", func(b []byte) { le.PutUint16(b[80:], 257) }, root, 0, "!salt"},
		{"no root hash", nil, "", 0, "!not a number in hex"},
		{"more behind the root hash", nil, root + " - 1 ignore_corruption", 0, "!not a number in hex"},
		{"half a byte", nil, "abc", 0, "!not a number in hex"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sb, err := parseSuperblock(head(c.change))
			var got target
			if err == nil {
				got, err = sb.target("/dev/vda1", "/dev/vda2", c.root)
			}
			if msg, fails := strings.CutPrefix(c.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), msg) {
					t.Fatalf("got %v, want …%s…", err, msg)
				}
				return
			}
			if err != nil || got.kind != "verity" || got.sectors != c.sectors || got.params != c.want {
				t.Errorf("got %+v, %v\nwant %d sectors, %s", got, err, c.sectors, c.want)
			}
		})
	}
}

// The bytes that the kernel gets, field by field: include/uapi/linux/dm-ioctl.h.
func TestTable(t *testing.T) {
	b := table("root", target{8000, "verity", "1 a b"})
	le := binary.LittleEndian
	for _, f := range []struct {
		name string
		got  uint32
		want uint32
	}{
		{"version", le.Uint32(b[0:]), 4}, {"data_size", le.Uint32(b[12:]), uint32(len(b))},
		{"data_start", le.Uint32(b[16:]), 312},
		{"target_count", le.Uint32(b[20:]), 1}, {"flags", le.Uint32(b[28:]), readOnly},
		{"sector_start", le.Uint32(b[312:]), 0}, {"length", le.Uint32(b[320:]), 8000}, {"next", le.Uint32(b[332:]), 48},
	} {
		if f.got != f.want {
			t.Errorf("%s is %d, want %d", f.name, f.got, f.want)
		}
	}
	if text(b[48:176]) != "root" || text(b[336:352]) != "verity" || text(b[352:]) != "1 a b" || len(b) != 312+48 {
		t.Errorf("names: %q", b[48:])
	}
}

// FuzzSuperblock: the disk is not trusted; whatever lies there, one line of a table comes of it, or nothing.
func FuzzSuperblock(f *testing.F) {
	f.Add(head(nil))
	f.Add([]byte("verity\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sb, err := parseSuperblock(b)
		if err != nil {
			return
		}
		got, err := sb.target("/dev/a", "/dev/b", root)
		if err != nil {
			t.Fatal(err)
		}
		n := len(strings.Fields(got.params))
		if n != 10 || len(got.params) > maxParams || strings.ContainsAny(got.params, "\n\x00") {
			t.Errorf("%d parameters: %q", n, got.params)
		}
		if got.sectors == 0 {
			t.Error("a device of nothing")
		}
	})
}
