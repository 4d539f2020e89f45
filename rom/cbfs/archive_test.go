package cbfs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/romtest"
)

// read reads a CBFS that lies 100 bytes behind the beginning of a file.
func read(t *testing.T, data []byte) *cbfs.Archive {
	t.Helper()
	a, err := cbfs.Read(bytes.NewReader(append(make([]byte, 100), data...)), 100, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var digest = sha256.Sum256([]byte("romstage"))

func small() []byte {
	return romtest.CBFS(2048,
		romtest.File{Name: "fallback/romstage", Type: romtest.Stage, Data: []byte("romstage"), Attributes: romtest.Hash(2, digest[:])},
		romtest.File{Name: "config", Data: []byte("CONFIG_X=y\n")},
		romtest.File{Name: "bootblock", Type: romtest.Bootblock, Data: make([]byte, 24)})
}

func TestRead(t *testing.T) {
	a := read(t, small())
	want := []*cbfs.File{
		{Name: "fallback/romstage", Type: cbfs.TypeStage, Offset: 100, Data: 100 + 24 + 32 + 44, Size: 8,
			Hash: &cbfs.Hash{Algorithm: "SHA256", Digest: hex.EncodeToString(digest[:])}},
		{Name: "config", Type: cbfs.TypeRaw, Offset: 100 + 128, Data: 100 + 128 + 40, Size: 11},
		{Name: "bootblock", Type: cbfs.TypeBootblock, Offset: 100 + 2048 - 64, Data: 100 + 2048 - 24, Size: 24},
	}
	if d := cmp.Diff(want, a.Files, cmpopts.IgnoreUnexported(cbfs.File{})); d != "" || a.Problems != nil {
		t.Error(d, a.Problems)
	}
	if ok, err := a.File("fallback/romstage").Check(); !ok || err != nil {
		t.Errorf("hash %t, %v", ok, err)
	}
	if a.File("fallback/ramstage") != nil {
		t.Error("there is a ramstage")
	}
}

func TestCheck(t *testing.T) {
	data := small()
	data[bytes.Index(data, []byte("romstage\xff"))+1]++ // of the data, not of the name
	if ok, err := read(t, data).File("fallback/romstage").Check(); ok || err != nil {
		t.Errorf("a changed byte: hash %t, %v", ok, err)
	}
}

func TestProblems(t *testing.T) {
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		files  string // that are still found
		want   string
	}{
		{"nothing", func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }, "", `at 0x64: no file, want "LARCHIVE"`},
		{"magic", func(b []byte) []byte { b[0] = 'l'; return b }, "config bootblock",
			"at 0x64: no LARCHIVE, and none in the 0x80 bytes from there on"},
		{"cut", func(b []byte) []byte { return b[:1024] }, "fallback/romstage config", "at 0x124: a file that ends 0x3c0 bytes behind the CBFS"},
		{"too long", put(8, 1<<31), "config bootblock", "at 0x64: a file that ends 0x7ffff8"},
		{"header too long", put(20, 257), "config bootblock", "at 0x64: a header of 257 bytes, want at most 256"},
		{"attributes behind the data", put(16, 200), "config bootblock", "at 0x64: name or attributes at 0xc8, data at 0x64"},
		{"no name", put(16, 24), "config bootblock", "at 0x64: name or attributes at 0x18"},
		{"attribute without a length", put(24+32+4, 0), "fallback/romstage config bootblock", "at 0x9c: an attribute of fallback/romstage of 0 bytes"},
		{"attribute too long", put(24+32+4, 45), "fallback/romstage config bootblock", "of 45 bytes, want from 8 to 44"},
		{"hash of another length", put(24+32+8, 1), "fallback/romstage config bootblock", "of algorithm 1 with 32 bytes, want one of vboot's"},
		{"empty compression", put(24+32, 0x42435a4c), "fallback/romstage config bootblock", "an attribute 0x42435a4c of fallback/romstage with 36 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := read(t, c.damage(small()))
			var names []string
			for _, f := range a.Files {
				names = append(names, f.Name)
			}
			if got := strings.Join(names, " "); got != c.files {
				t.Errorf("files %s, want %s", got, c.files)
			}
			if !slices.ContainsFunc(a.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("problems %q, want %s", a.Problems, c.want)
			}
		})
	}
}

func TestMasterHeader(t *testing.T) {
	rom := bytes.Repeat([]byte{0xff}, 0x1000)
	header := []byte("ORBC1112")
	for _, n := range []uint32{0x1000, 0x100, 64, 0x40, 1, 0} {
		header = binary.BigEndian.AppendUint32(header, n)
	}
	copy(rom[0xf80:], header)
	binary.LittleEndian.PutUint32(rom[0xffc:], 0xffffff80) // 0x80 from the end
	offset, length, ok, err := cbfs.MasterHeader(bytes.NewReader(rom), int64(len(rom)))
	if offset != 0x40 || length != 0xf00-0x40 || !ok || err != nil {
		t.Errorf("got 0x%x, 0x%x, %t, %v", offset, length, ok, err)
	}
	inside := bytes.Clone(rom)
	binary.BigEndian.PutUint32(inside[0xf8c:], 4) // the bootblock is a file
	if offset, length, ok, err = cbfs.MasterHeader(bytes.NewReader(inside), int64(len(rom))); offset != 0x40 || length != 0x1000-0x40 || !ok || err != nil {
		t.Errorf("got 0x%x, 0x%x, %t, %v", offset, length, ok, err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"short":         func(b []byte) []byte { return b[:20] },
		"magic":         func(b []byte) []byte { b[0xf80]++; return b },
		"pointer":       func(b []byte) []byte { b[0xffe]--; return b },
		"start too far": func(b []byte) []byte { b[0xf80+22] = 0xff; return b },
	} {
		data := damage(bytes.Clone(rom))
		if _, _, ok, err := cbfs.MasterHeader(bytes.NewReader(data), int64(len(data))); ok || err != nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
}
