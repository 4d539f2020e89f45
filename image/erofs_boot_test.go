package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/image/erofs"
)

// lookAtTruth is what the guest does with the disk that writeTruth made: it mounts it and runs the program from it.
const lookAtTruth = `
$B mkdir -p /tmp/truth && $B mount -t erofs -o ro \
	/dev/$($B grep -l '^truth' /sys/block/vd*/serial | $B cut -d/ -f4) /tmp/truth && /tmp/truth/look /tmp/truth/tree
`

// seen is what testdata/look tells of a file; see there.
type seen struct {
	Path              string
	Mode, Nlink       uint32
	UID, GID          uint32
	Mtime, Size, Rdev int64
	Inode             uint64
	Link, Sum         string
	Xattrs            map[string]string
	Names             int
}

// writeTruth writes an EROFS disk with one of everything, and the program that tells what a kernel makes of it. It
// returns what the program should say, in any order.
func writeTruth(ctx context.Context, t *testing.T, name string) []seen {
	t.Helper()
	look := filepath.Join(t.TempDir(), "look")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", look, "./testdata/look")
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := onDisk(t, look)
	tr := newTree()
	put := func(name string, n *node) {
		t.Helper()
		if err := tr.put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	put("look", &node{mode: typeFile | 0o755, size: program.Size, data: func() io.Reader {
		f, err := program.Open()
		if err != nil {
			t.Error(err)
		}
		return f
	}})
	for at, n := range truth() {
		put(path.Join("tree", at), n)
	}
	out := createFile(t, name)
	if _, err := writeErofs(ctx, out, tr, testClock); err != nil {
		t.Fatal(err)
	}
	img, err := erofs.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	root, err := img.Tree()
	if err != nil {
		t.Fatal(err)
	}
	links := map[*node]uint32{}
	for _, n := range tr.all() {
		links[n]++
	}
	return expect(t, "/", tr.get("tree"), root.Children["tree"], links)
}

// truth is one of everything, by path.
func truth() map[string]*node {
	hour := testClock.Unix() - 3600
	file := func(mode uint32, data string) *node {
		return &node{mode: typeFile | mode, mtime: hour, size: int64(len(data)), data: inMemory([]byte(data))}
	}
	twin := file(0o4755, strings.Repeat("twin", 2000))
	acl := func(user byte) string { // acl(5): the version, then tag, permissions and id of each entry
		return "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00" + string(user) + "\x00\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	}
	capability := file(0o755, "cap_net_raw+ep")
	capability.xattrs = map[string]string{ // struct vfs_cap_data, version 2
		"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}
	attributes := file(0o644, "attributes")
	attributes.xattrs = map[string]string{
		"user.small": "s", "user.empty": "", "trusted.t": "root's", "security.x": "\x00binary",
		"system.posix_acl_access": acl(7),
	}
	big := file(0o644, "after more attributes than a block has room for")
	big.xattrs = map[string]string{"user.a": strings.Repeat("a", 5000), "user.b": strings.Repeat("b", 60000)}
	foreign := file(0o640, "owners beyond 16 bits")
	foreign.uid, foreign.gid = 70000, 3000000000
	inherits := &node{mode: typeDir | 0o2775, mtime: hour}
	inherits.xattrs = map[string]string{"system.posix_acl_default": acl(9)}
	nodes := map[string]*node{
		".":            {mode: typeDir | 0o755, mtime: hour},
		"twins/one":    twin,
		"twins/two":    twin,
		"other/three":  twin,
		"capability":   capability,
		"attributes":   attributes,
		"big":          big,
		"foreign":      foreign,
		"setgid":       file(0o2711, "g"),
		"dirs/sticky":  {mode: typeDir | 0o1777, mtime: hour},
		"dirs/default": inherits,
		"dev/null":     {mode: typeChar | 0o666, mtime: hour, rdev: encodeDev(1, 3)},
		"dev/many":     {mode: typeBlock | 0o660, mtime: hour, rdev: encodeDev(259, 70000)},
		"dev/fifo":     {mode: typeFifo | 0o600, mtime: hour},
		"dev/socket":   {mode: typeSocket | 0o755, mtime: hour},
		"links/short":  {mode: typeLink | 0o777, mtime: hour, link: "../twins/one"},
		"links/long":   {mode: typeLink | 0o777, mtime: hour, link: strings.Repeat("long/", 800)},
		"links/full":   {mode: typeLink | 0o777, mtime: hour, link: strings.Repeat("x", 4095)},
		"old":          {mode: typeFile | 0o644, mtime: -1},
		"zeros":        {mode: typeFile | 0o644, mtime: hour, size: 5<<30 + 123, data: erofs.Zeros}, // a hole
		// Behind the hole, at a block number that times 4096 needs more than 32 bits.
		"zz/far": file(0o644, strings.Repeat("beyond 4 GiB ", 10000)),
	}
	for _, n := range []int{0, 1, 4030, 4032, 4033, 4095, 4096, 4097, 8192, 8193, 100000} {
		nodes[fmt.Sprintf("sizes/%d", n)] = file(0o644, strings.Repeat("0123456789abc", n/13+1)[:n])
	}
	for i := range 5000 { // names of many lengths, some before the dots
		name := fmt.Sprintf("%s%d%s", []string{"", "-", "!", "~", "\xff"}[i%5], i, strings.Repeat("n", i%90))
		nodes["names/"+name] = file(0o644, "")
		if i%7 == 0 {
			nodes["names/"+name] = twin
		}
	}
	return nodes
}

// expect says what testdata/look should see of a tree, whose inodes have the numbers of what was read back.
func expect(t *testing.T, at string, n *node, numbered *erofs.Node, links map[*node]uint32) []seen {
	t.Helper()
	s := seen{
		Path: at, Mode: n.mode, Nlink: links[n], UID: n.uid, GID: n.gid, Mtime: n.mtime, Size: n.size,
		Rdev: int64(n.rdev), Inode: numbered.Nid, Link: n.link,
	}
	for name, value := range n.xattrs {
		if s.Xattrs == nil {
			s.Xattrs = map[string]string{}
		}
		sum := sha256.Sum256([]byte(value))
		s.Xattrs[name] = fmt.Sprintf("%d %x", len(value), sum[:8])
	}
	sum := sha256.New()
	switch n.mode & typeMask {
	case typeLink:
		s.Size = int64(len(n.link))
	case typeFile:
		size := n.size
		if size > 1<<30 {
			size = 4097
		}
		if n.data != nil {
			if _, err := io.CopyN(sum, n.data(), size); err != nil {
				t.Fatal(err)
			}
		}
		s.Sum = fmt.Sprintf("%x", sum.Sum(nil))
	case typeDir:
		s.Nlink, s.Size = 2, 0 // the size is the format's affair
		var below []seen
		for _, base := range slices.Sorted(maps.Keys(n.children)) {
			child := n.children[base]
			if child.isDir() {
				s.Nlink++
			}
			if len(n.children) < 100 {
				below = append(below, expect(t, path.Join(at, base), child, numbered.Children[base], links)...)
			}
			fmt.Fprintln(sum, base, numbered.Children[base].Nid)
		}
		if len(n.children) >= 100 {
			s.Names, s.Sum = len(n.children), fmt.Sprintf("%x", sum.Sum(nil))
		}
		return append([]seen{s}, below...)
	}
	return []seen{s}
}

// checkTruth compares what the guest said on its console with what it should say.
func checkTruth(t *testing.T, console string, want []seen) {
	t.Helper()
	said := map[string]seen{}
	done := false
	for line := range strings.Lines(console) {
		_, text, ok := strings.Cut(strings.TrimSpace(line), "look: ")
		if !ok {
			continue
		}
		var s seen
		switch {
		case text == "done":
			done = true
		case json.Unmarshal([]byte(text), &s) != nil:
			t.Errorf("the guest says %q", text)
		default:
			if s.Mode&typeMask == typeDir {
				s.Size = 0
			}
			said[s.Path] = s
		}
	}
	if !done || len(said) != len(want) {
		t.Fatalf("the guest told of %d files, want %d; done: %t\n%s", len(said), len(want), done, console)
	}
	for _, w := range want {
		if !reflect.DeepEqual(said[w.Path], w) {
			t.Errorf("the guest sees\n %+v\nwant\n %+v", said[w.Path], w)
		}
	}
}
