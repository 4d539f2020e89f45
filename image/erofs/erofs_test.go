package erofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var built = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

var testOptions = Options{BuildTime: built, UUID: [16]byte{1, 2, 3}, Label: "test"}

// file makes a file an hour older than the image.
func file(mode uint32, data string) *Node {
	return &Node{
		Mode: typeFile | mode, Mtime: built.Unix() - 3600, Size: int64(len(data)),
		Data: func() io.Reader { return strings.NewReader(data) },
	}
}

func dir(children map[string]*Node) *Node {
	return &Node{Mode: typeDir | 0o755, Mtime: built.Unix(), Children: children}
}

// everything is a tree with one of each.
func everything() *Node {
	twin := file(0o4755, strings.Repeat("twin", 3000))
	long := map[string]*Node{}
	for i := range 3000 { // names of many lengths, some before the dots
		name := []string{"", "-", "!", "~", "\xff"}[i%5] + fmt.Sprint(i) + strings.Repeat("n", i%200)
		if long[name] = twin; i%3 == 0 {
			long[name] = file(0o600, name)
		}
	}
	sizes := map[string]*Node{}
	for _, n := range []int{
		0, 1, 31, 32, 4000, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193,
		copySize - 1, copySize, copySize + 1, 2*copySize + 17,
	} {
		sizes[fmt.Sprint(n)] = file(0o644, strings.Repeat("0123456789abcdefghi", n/19+1)[:n])
	}
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff"
	with := func(n *Node, xattrs map[string]string) *Node {
		n.Xattrs = xattrs
		return n
	}
	return dir(map[string]*Node{
		"long":    dir(long),
		"empty":   dir(nil),
		"!before": twin,
		"sizes":   dir(sizes),
		"zeros":   {Mode: typeFile | 0o600, Size: 5 << 20, Data: Zeros, Mtime: -1},
		"few":     {Mode: typeFile | 0o600, Size: 5, Data: Zeros, Mtime: built.Unix()},
		"link":    {Mode: typeLink | 0o777, Link: "usr/bin", Mtime: built.Unix()},
		"far":     {Mode: typeLink | 0o777, Link: strings.Repeat("x/", 2000), UID: 70000},
		"full":    {Mode: typeLink | 0o777, Link: strings.Repeat("x", maxLink)},
		"null":    {Mode: typeChar | 0o666, Rdev: 0x103, GID: 1 << 31},
		"disk":    {Mode: typeBlock | 0o660, Rdev: 0x10307},
		"fifo":    {Mode: typeFifo | 0o644},
		"socket":  {Mode: typeSocket | 0o777},
		"caps": with(file(0o755, "caps"), map[string]string{
			"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00", "user.empty": "", "trusted.x": "y",
			"system.posix_acl_access": acl,
		}),
		"acl": with(dir(nil), map[string]string{"system.posix_acl_default": acl}),
		"heap": with(file(0o644, "heap"), map[string]string{
			"user.big": strings.Repeat("v", 65535), "user.more": strings.Repeat("w", 4096),
		}),
	})
}

func write(t testing.TB, root *Node) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := Write(context.Background(), f, root, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size || size%BlockSize != 0 {
		t.Fatalf("Write says %d bytes, the file has %d (%v)", size, info.Size(), err)
	}
	return f
}

func read(t testing.TB, r io.ReaderAt) *Node {
	t.Helper()
	img, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	root, err := img.Tree()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// compare holds one tree against another: attributes, contents, and which names share an inode.
type compare struct {
	t           testing.TB
	got, wanted map[*Node]*Node
}

func same(t testing.TB, got, want *Node) {
	t.Helper()
	compare{t, map[*Node]*Node{}, map[*Node]*Node{}}.nodes("", got, want)
}

func (c compare) nodes(at string, got, want *Node) {
	if c.got[got] != nil || c.wanted[want] != nil {
		if c.got[got] != want || c.wanted[want] != got {
			c.t.Errorf("%s is a hard link in one tree only", at)
		}
		return
	}
	c.got[got], c.wanted[want] = want, got
	if got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Mtime != want.Mtime ||
		got.Rdev != want.Rdev || got.Size != want.Size || got.Link != want.Link ||
		!maps.Equal(got.Xattrs, want.Xattrs) {
		c.t.Errorf("%s\n got %+v\nwant %+v", at, got, want)
	}
	if !bytes.Equal(content(c.t, got), content(c.t, want)) {
		c.t.Errorf("%s: another content", at)
	}
	g, w := slices.Sorted(maps.Keys(got.Children)), slices.Sorted(maps.Keys(want.Children))
	if !slices.Equal(g, w) {
		c.t.Fatalf("%s: %d names, want %d:\n%.300q\n%.300q", at, len(g), len(w), g, w)
	}
	for _, name := range w {
		c.nodes(at+"/"+name, got.Children[name], want.Children[name])
	}
}

func content(t testing.TB, n *Node) []byte {
	t.Helper()
	if n.Data == nil {
		return nil
	}
	r := n.Data()
	if _, ok := r.(zeros); ok {
		r = io.LimitReader(r, n.Size)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	root := everything()
	f := write(t, root)
	same(t, read(t, f), root)
	img, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if img.Label != "test" || img.UUID != testOptions.UUID || !img.BuildTime.Equal(built) ||
		img.BlockSize != BlockSize {
		t.Errorf("the superblock says %+v", img)
	}
	if fsck, err := exec.LookPath("fsck.erofs"); err == nil {
		if out, err := exec.Command(fsck, f.Name()).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestGolden: the image of a tree must never change by itself. Where it changes on purpose, image.Version grows.
func TestGolden(t *testing.T) {
	const golden = "testdata/everything.sha256"
	before := ""
	for _, procs := range []int{1, 2, 7} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			sum := sha256.New()
			if _, err := io.Copy(sum, io.NewSectionReader(write(t, everything()), 0, 1<<40)); err != nil {
				t.Fatal(err)
			}
			got := hex.EncodeToString(sum.Sum(nil)) + "\n"
			if before != "" && got != before {
				t.Errorf("%d processors give another image", procs)
			}
			before = got
		}()
	}
	if *update {
		if err := os.WriteFile(golden, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if before != string(want) {
		t.Errorf("the image is %swant %s", before, want)
	}
}

// TestHardLinks looks at the inode itself, for the reader tells of links by sharing nodes.
func TestHardLinks(t *testing.T) {
	twin := file(0o644, "twin")
	f := write(t, dir(map[string]*Node{"a": twin, "b": twin, "d": dir(map[string]*Node{"c": twin}), "e": dir(nil)}))
	root := read(t, f)
	for name, want := range map[string]uint32{"a": 3, "d": 2, "e": 2, ".": 4} {
		nid := root.Nid
		if name != "." {
			nid = root.Children[name].Nid
		}
		if got := links(t, f, nid); got != want {
			t.Errorf("%s has %d links, want %d", name, got, want)
		}
	}
	if img, err := Open(f); err != nil || img.Inodes != 4 {
		t.Errorf("%d inodes, want 4 (%v)", img.Inodes, err)
	}
}

// links reads how many an inode has.
func links(t *testing.T, r io.ReaderAt, nid uint64) uint32 {
	t.Helper()
	b := make([]byte, extendedSize)
	if err := readAt(r, b, int64(nid)*slotSize); err != nil {
		t.Fatal(err)
	}
	i, err := parseInode(b[:inodeLen(b)], 0)
	if err != nil {
		t.Fatal(err)
	}
	return i.nlink
}

// TestLarge: what has more than 32 bits of size, 16 bits of links, and a place beyond 4 GiB.
func TestLarge(t *testing.T) {
	twin := &Node{Mode: typeFile, Mtime: built.Unix()}
	names := map[string]*Node{}
	for i := range 70000 {
		names[fmt.Sprint(i)] = twin
	}
	f := write(t, dir(map[string]*Node{
		"a":     {Mode: typeFile, Mtime: built.Unix(), Size: 5<<30 + 1, Data: Zeros},
		"b":     file(0o644, strings.Repeat("far", 3000)),
		"names": dir(names),
	}))
	root := read(t, f)
	if got := root.Children["a"].Size; got != 5<<30+1 {
		t.Errorf("a has %d bytes", got)
	}
	same(t, root.Children["b"], file(0o644, strings.Repeat("far", 3000)))
	got := root.Children["names"].Children
	if n := links(t, f, got["0"].Nid); n != 70000 || len(got) != 70000 || got["0"] != got["69999"] {
		t.Errorf("%d names, of a file with %d links", len(got), n)
	}
}

// TestMkfs reads an image of mkfs.erofs (erofs-utils 1.5, -T1709294400), with compact inodes, shared extended
// attributes and a directory of three blocks.
func TestMkfs(t *testing.T) {
	f, err := os.Open("testdata/mkfs.erofs")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := read(t, f)
	inline := file(0o4755, "inline\n")
	inline.Mtime = built.Unix()
	if got := root.Children["dir"].Children["twin"]; got != root.Children["inline"] {
		t.Error("the hard link is a file of its own")
	}
	same(t, root.Children["inline"], inline)
	for name, want := range map[string]string{
		"plain": strings.Repeat("x", 4096), "both": strings.Repeat("0123456789", 500), "x1": "",
	} {
		if got := string(content(t, root.Children[name])); got != want {
			t.Errorf("%s has %d bytes %.20q, want %d", name, len(got), got, len(want))
		}
	}
	for name, want := range map[string]map[string]string{
		"x0": {"user.shared": "the same value", "user.own": "1", "trusted.own": "2"},
		"x1": {"user.shared": "the same value"}, "plain": nil,
	} {
		if got := root.Children[name].Xattrs; !maps.Equal(got, want) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if n := root.Children["x1"]; n.UID != 70000 || n.GID != 80000 {
		t.Errorf("x1 belongs to %d:%d", n.UID, n.GID)
	}
	if n := root.Children["null"]; n.Mode != typeChar|0o666 || n.Rdev != 0x103 {
		t.Errorf("null has mode %o and number %#x", n.Mode, n.Rdev)
	}
	if n := root.Children["link"]; n.Link != "dir/twin" {
		t.Errorf("the link leads to %q", n.Link)
	}
	if n := len(root.Children["long"].Children); n != 150 {
		t.Errorf("long has %d names", n)
	}
	same(t, read(t, write(t, root)), root)
}

func TestWriteRefuses(t *testing.T) {
	loop := dir(map[string]*Node{})
	loop.Children["d"] = dir(map[string]*Node{"up": loop})
	twice := dir(nil)
	in := func(name string, n *Node) *Node { return dir(map[string]*Node{"etc": dir(map[string]*Node{name: n})}) }
	lying := func(size int64) *Node {
		n := file(0o644, strings.Repeat("x", 5000))
		n.Size = size
		return n
	}
	xattr := func(name, value string) *Node {
		n := file(0o644, "x")
		n.Xattrs = map[string]string{name: value}
		return n
	}
	many := file(0o644, "x")
	many.Xattrs = map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		many.Xattrs["user."+name] = strings.Repeat(name, 60000)
	}
	cases := []struct {
		name string
		root *Node
		want string
	}{
		{"nothing", nil, "the root is no folder"},
		{"a file for a root", file(0, ""), "the root is no folder"},
		{"a loop", loop, "/: a folder with a second name, /d/up"},
		{"a folder twice", dir(map[string]*Node{"a": twice, "b": twice}), "/a: a folder with a second name, /b"},
		{"a slash", in("a/b", file(0, "")), `/etc: "a/b" cannot be the name of a file`},
		{"a dot", in(".", file(0, "")), `/etc: "." cannot be`},
		{"no name", in("", file(0, "")), `/etc: "" cannot be`},
		{"a long name", in(strings.Repeat("n", 256), file(0, "")), "/etc: a name of 256 bytes, want at most 255"},
		{"no file", in("x", nil), "/etc/x: a name without a file"},
		{"no type", in("x", &Node{Mode: 0o644}), "/etc/x: mode 0644 is of no type"},
		{"a link to nothing", in("x", &Node{Mode: typeLink}), "/etc/x: a symbolic link with a target of 0 bytes"},
		{"a long link", in("x", &Node{Mode: typeLink, Link: strings.Repeat("x", 4096)}), "/etc/x: a symbolic link"},
		{"too short", in("x", lying(9000)), "/etc/x: its content ends after 5000 of 9000 bytes"},
		{"too short by a tail", in("x", lying(5001)), "/etc/x: its content ends after 5000 of 5001 bytes"},
		{"too long", in("x", lying(4999)), "/etc/x: its content goes on after 4999 bytes"},
		{"too long by a block", in("x", lying(4096)), "/etc/x: its content goes on after 4096 bytes"},
		{"no content", in("x", &Node{Mode: typeFile, Size: 1}), "/etc/x: a file of 1 bytes without content"},
		{"negative", in("x", lying(-1)), "/etc/x: a size of -1 bytes"},
		{"huge", in("x", lying(1<<62)), "/etc/x: a size of"},
		{"huge together", dir(map[string]*Node{
			"a": {Mode: typeFile, Size: maxImage - BlockSize, Data: Zeros},
			"b": {Mode: typeFile, Size: 2 * BlockSize, Data: Zeros},
		}), "/b: with it the image has more than"},
		{"an unknown attribute", in("x", xattr("system.nfs4_acl", "x")), `/etc/x: extended attribute "system.nfs4`},
		{"a nameless attribute", in("x", xattr("user.", "x")), `/etc/x: extended attribute "user."`},
		{"a long attribute", in("x", xattr("user.x", strings.Repeat("x", 65536))), "user.x has 65536 bytes, want"},
		{"many attributes", in("x", many), "/etc/x: 300052 bytes of extended attributes, want at most 262148"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out memory
			_, err := Write(context.Background(), &out, c.root, testOptions)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
			if _, err := Open(bytes.NewReader(out.b)); err == nil {
				t.Error("what was written up to then can be read as an image")
			}
		})
	}
	if _, err := Write(context.Background(), &memory{}, dir(nil), Options{Label: "seventeen letters"}); err == nil {
		t.Error("a label of 17 bytes was taken")
	}
}

func TestWriteStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, &memory{}, everything(), testOptions); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled write gave %v", err)
	}
	for _, room := range []int64{1, 4096, 1 << 20, 8 << 20} {
		_, err := Write(context.Background(), &memory{full: room}, everything(), testOptions)
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("a disk full after %d bytes gave %v", room, err)
		}
	}
}
