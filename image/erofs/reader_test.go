package erofs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// small is a tree with one inode of each form in two blocks of metadata, for tests that damage its image.
func small() *Node {
	twin := file(0o644, strings.Repeat("twin", 1100))
	caps := file(0o755, "caps")
	caps.Xattrs = map[string]string{"user.a": "1", "user.b": "two"}
	names := map[string]*Node{}
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		names[strings.Repeat(string(c), 200)] = twin
	}
	return dir(map[string]*Node{
		"caps": caps,
		"dir":  dir(map[string]*Node{"twin": twin}),
		"file": twin,
		"link": {Mode: typeLink | 0o777, Link: "file", Mtime: built.Unix()},
		"long": dir(names),
		"null": {Mode: typeChar | 0o666, Rdev: 0x103},
	})
}

func image(t testing.TB, root *Node) []byte {
	t.Helper()
	var m memory
	if _, err := Write(context.Background(), &m, root, testOptions); err != nil {
		t.Fatal(err)
	}
	return m.b
}

// seal puts the checksum right that damage to block 0 has put wrong.
func seal(b []byte) {
	binary.LittleEndian.PutUint32(b[superOffset+4:], checksum(b[superOffset:BlockSize]))
}

func TestReadRefuses(t *testing.T) {
	le := binary.LittleEndian
	super := func(off int, v ...byte) func([]byte, *Node) {
		return func(b []byte, _ *Node) { copy(b[superOffset+off:], v) }
	}
	at := func(n *Node, off int) int { return int(n.Nid)*slotSize + off }
	inode := func(name string, off int, v ...byte) func([]byte, *Node) {
		return func(b []byte, root *Node) { copy(b[at(root.Children[name], off):], v) }
	}
	// The root's content follows its 32 bytes. Its entries are ".", "..", "caps", "dir", "file", "link", "long" and
	// "null".
	entry := func(i, off int, v ...byte) func([]byte, *Node) {
		return func(b []byte, root *Node) { copy(b[at(root, compactSize+i*direntSize+off):], v) }
	}
	cases := []struct {
		name   string
		damage func(b []byte, root *Node)
		want   string
	}{
		{"magic", super(0, 1), "superblock: no EROFS: the number 0xe0f5e101 at byte 1024, want 0xe0f5e1e2"},
		{"block size", super(12, 30), "superblock: blocks of 2^30 bytes"},
		{"compression", super(80, 0x22), "uses compression settings or big clusters, fragments or shared clusters"},
		{"a feature to come", super(83, 0x80), "uses bit 31"},
		{"more blocks than there are", super(36, 0xff), "an image of 255 blocks of 4096 bytes, cut off"},
		{"root outside", super(14, 0xff, 0xff), "/: inode 65535 lies outside the image"},
		{"metadata outside", super(40, 0xff, 0xff, 0xff, 0xff), "/: inode 36: 32 bytes at byte 17592186041472"},
		{"root no folder", func(b []byte, root *Node) {
			le.PutUint16(b[superOffset+14:], uint16(root.Children["null"].Nid))
		}, "/: an inode with mode 020666, want a folder"},
		{"format", inode("caps", 0, 0x10), "/: caps: an inode of the unknown format 0x10"},
		{"compressed", inode("caps", 0, 0x03), "/: caps: content of layout 1"},
		{"type", inode("caps", 4, 0, 0), "/: caps: an inode with mode 0, which is no type of file"},
		{"another type", inode("caps", 5, 0x61), "/: caps: an entry of type 1 for an inode of type 4"},
		{"size", inode("caps", 12, 1), "/: caps: 4294967300 bytes of content in an image"},
		{"content outside", inode("file", 16, 0xff, 0xff), "/: file: its content leaves the image"},
		{"tail over the end", inode("caps", 8, 0xf0, 0x0f), "/: caps: an inline tail of 4080 bytes"},
		{"attributes over the end", inode("caps", 2, 0xff, 0xff), "/: caps: extended attributes: "},
		{"attributes cut off", inode("caps", extendedSize+xattrHeader+2, 0xff), "/: caps: extended attributes are cut"},
		{"attributes shared by many", inode("caps", extendedSize+4, 0xff), "/: caps: extended attributes are cut off"},
		{"attributes shared outside", func(b []byte, root *Node) {
			x := b[at(root.Children["caps"], extendedSize):]
			x[4] = 1
			copy(x[xattrHeader:], "\xff\xff\xff\xff")
		}, "/: caps: shared extended attribute 4294967295: 4 bytes at byte"},
		{"an attribute's prefix", inode("caps", extendedSize+xattrHeader+1, 0x81),
			`/: caps: extended attribute "a" has the unknown prefix 129`},
		{"link", inode("link", compactSize, 0), "/: link: a symbolic link with a target of 4 bytes"},
		{"dot", entry(0, 0, 1), "/: . is inode 1, want 36"},
		{"dot dot", entry(1, 0, 1), "/: .. is inode 1, want 36"},
		{"names far off", entry(0, 8, 0xff, 0xff), "/: directory block at byte 0: names that begin at byte 65535"},
		{"no names", entry(0, 8, 0, 0), "/: directory block at byte 0: names that begin at byte 0"},
		{"a name of no length", func(b []byte, root *Node) {
			d := b[at(root, compactSize+2*direntSize):]
			copy(d[direntSize+8:direntSize+10], d[8:])
		}, `/: the names ".." and "" are not in order`},
		{"a name backwards", entry(3, 8, 0, 0), "/: directory block at byte 0: entry 2: a name from byte"},
		{"order", func(b []byte, root *Node) {
			names := b[at(root, 0):at(root, 300)]
			copy(names, bytes.ReplaceAll(names, []byte("capsdir"), []byte("dirscap")))
		}, `/: the names "dirs" and "cap" are not in order`},
		{"a name twice", func(b []byte, root *Node) {
			names := b[at(root, 0):at(root, 300)]
			copy(names, bytes.ReplaceAll(names, []byte("linklong"), []byte("linklink")))
		}, `/: the names "link" and "link" are not in order`},
		{"a slash", func(b []byte, root *Node) {
			names := b[at(root, 0):at(root, 300)]
			copy(names, bytes.ReplaceAll(names, []byte("dirfile"), []byte("d/rfile")))
		}, `/: "d/r" cannot be the name of a file`},
		{"an entry's type", entry(2, 10, 7), "/: caps: an entry of type 7 for an inode of type 1"},
		{"an entry outside", entry(2, 4, 1), "/: caps: inode 4294967"},
		{"a folder in itself", func(b []byte, root *Node) {
			d := b[at(root, compactSize+3*direntSize):]
			le.PutUint64(d, root.Nid)
		}, "/: dir: inode 36 is a folder that has another name already"},
		{"a folder twice", func(b []byte, root *Node) {
			d := b[at(root, compactSize+3*direntSize):]
			le.PutUint64(d, root.Children["long"].Nid)
		}, "a folder that has another name already"},
		{"below", func(b []byte, root *Node) {
			b[at(root.Children["dir"], compactSize+2*direntSize+10)] = 7
		}, "/dir/: twin: an entry of type 7"},
	}
	whole := image(t, small())
	root := read(t, bytes.NewReader(whole))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			c.damage(b, root)
			seal(b)
			img, err := Open(bytes.NewReader(b))
			if err == nil {
				_, err = img.Tree()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
	t.Run("checksum", func(t *testing.T) {
		b := bytes.Clone(whole)
		b[BlockSize-1] ^= 1
		if _, err := Open(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "the image is damaged") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		for n := range len(whole) {
			if _, err := Open(bytes.NewReader(whole[:n])); err == nil {
				t.Fatalf("%d of %d bytes were taken for all", n, len(whole))
			}
		}
	})
}

// TestOverlap: an image of a few blocks whose folders all have the same large content would else become a tree of
// many times its size.
func TestOverlap(t *testing.T) {
	names := map[string]*Node{}
	for i := range 2000 {
		names[strings.Repeat("n", i%250+1)+string(rune('a'+i/250))] = file(0o644, "")
	}
	folders := map[string]*Node{"big": dir(names)}
	for i := range 200 {
		folders[strings.Repeat("d", i+1)] = dir(map[string]*Node{"x": file(0, "")})
	}
	b := image(t, dir(folders))
	root := read(t, bytes.NewReader(b))
	big := b[root.Children["big"].Nid*slotSize:]
	// In place of "." and "..", which say whose content it is, two files.
	content := b[int(binary.LittleEndian.Uint32(big[16:]))*BlockSize:]
	nid := root.Children["big"].Children["na"].Nid
	for i, name := range []string{"!", "!!"} {
		d := content[i*direntSize:]
		binary.LittleEndian.PutUint64(d, nid)
		d[10] = fileTypes[typeFile]
		copy(content[binary.LittleEndian.Uint16(d[8:]):], name)
	}
	for _, n := range root.Children {
		d := b[n.Nid*slotSize:]
		copy(d[8:20], big[8:20]) // size and place
		d[0] = big[0]&^(layoutInline<<1) | layoutPlain<<1
		binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(d[8:])/BlockSize*BlockSize)
	}
	seal(b)
	img, err := Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Tree(); !errors.Is(err, errOverlap) {
		t.Errorf("folders that overlap gave %v", err)
	}
}

// FuzzRead: whatever the bytes, reading ends, stays within the image, and gives a tree that can be written and read.
func FuzzRead(f *testing.F) {
	f.Add(image(f, dir(nil)))
	f.Add(image(f, small()))
	mkfs, err := os.ReadFile("testdata/mkfs.erofs")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mkfs)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > superOffset+superSize { // else the fuzzer would find nothing but wrong checksums
			b = bytes.Clone(b)
			b[superOffset+8] &^= compatChecksum
		}
		img, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		root, err := img.Tree()
		if err != nil {
			return
		}
		limit := int64(4 * len(b))
		count(t, root, &limit)
		again, err := Write(context.Background(), &memory{}, root, Options{BuildTime: img.BuildTime})
		if err != nil && !strings.Contains(err.Error(), io.ErrShortWrite.Error()) {
			t.Errorf("what was read cannot be written: %v (%d bytes)", err, again)
		}
	})
}

// count reads the contents while the limit lasts.
func count(t *testing.T, n *Node, limit *int64) {
	if *limit -= n.Size; n.Data != nil && *limit > 0 {
		if got := int64(len(content(t, n))); got != n.Size {
			t.Errorf("%d bytes of content, want %d", got, n.Size)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		count(t, n.Children[name], limit)
	}
}

// TestDamage puts wrong values into every byte of the metadata, one at a time: reading ends in a tree or in an error
// that says where.
func TestDamage(t *testing.T) {
	whole := image(t, small())
	for off := superOffset; off < 3*BlockSize; off++ {
		for _, wrong := range []byte{0, 0xff, whole[off] + 1} {
			before := whole[off]
			whole[off] = wrong
			seal(whole)
			img, err := Open(bytes.NewReader(whole))
			if err == nil {
				_, err = img.Tree()
			}
			if err != nil && !strings.HasPrefix(err.Error(), "/") && !strings.Contains(err.Error(), "superblock: ") &&
				!strings.Contains(err.Error(), "cut off") {
				t.Errorf("%#x at byte %d: %v", wrong, off, err)
			}
			whole[off] = before
		}
	}
}
