package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const day = 1767225600 // 2026-01-01

func regular(data []byte) *Node {
	return &Node{
		Mode: typeFile | 0o644, MTime: day, Size: int64(len(data)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

func folder(children map[string]*Node) *Node {
	return &Node{Mode: typeDir | 0o755, MTime: day, Children: children}
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// sample is a tree with all that the format tells apart.
func sample() *Node {
	text := bytes.Repeat([]byte("all that is in a bell jar\n"), 20000)
	sparse := make([]byte, 5*blockSize+77)
	copy(sparse[2*blockSize:], "an island")
	twin := regular([]byte("two names"))
	twin.Mode = typeFile | 0o4755
	capable := regular(noise(3000))
	capable.Xattrs = map[string]string{
		"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"user.note":           "n",
	}
	alike := regular([]byte("the same attributes"))
	alike.Xattrs = capable.Xattrs
	marked := folder(nil)
	marked.Xattrs = map[string]string{"trusted.of": "a folder"}
	owned := regular([]byte("owned"))
	owned.UID, owned.GID, owned.Mode, owned.MTime = 1000, 4_000_000_000, typeFile|0o2600, -5
	many := map[string]*Node{}
	for i := range 3000 { // its list needs more than 64 KiB
		many[fmt.Sprintf("a-rather-long-name-for-a-file-%05d", i)] = regular([]byte(fmt.Sprint(i)))
	}
	sticky := folder(nil)
	sticky.Mode = typeDir | 0o1777
	return folder(map[string]*Node{
		"text": regular(text), "sparse": regular(sparse), "noise": regular(noise(3*blockSize + 1)),
		"block": regular(text[:blockSize]), "almost": regular(text[:blockSize-1]), "empty": regular(nil),
		"small-noise": regular(noise(70000)), "zeros": regular(make([]byte, 100)),
		"twin": twin, "capable": capable, "alike": alike, "marked": marked, "owned": owned, "tmp": sticky,
		"many": folder(many), "deep": folder(map[string]*Node{"er": folder(map[string]*Node{"twin": twin})}),
		"link":   {Mode: typeLink | 0o777, MTime: day, Target: "deep/er"},
		"null":   {Mode: typeChar | 0o666, MTime: day, Rdev: 1<<8 | 3},
		"disk":   {Mode: typeBlock | 0o660, MTime: day, Rdev: 8<<8 | 17, GID: 6},
		"fifo":   {Mode: typeFifo | 0o600, MTime: day},
		"socket": {Mode: typeSocket | 0o600, MTime: day},
	})
}

func write(t *testing.T, root *Node) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "root.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := Write(t.Context(), f, root, Options{Time: time.Unix(day, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size || size%padTo != 0 {
		t.Fatalf("%d bytes, %d told (%v)", info.Size(), size, err)
	}
	return f.Name()
}

// unsquashfs runs squashfs-tools, which 'make setup-test' installs.
func unsquashfs(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "unsquashfs", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("unsquashfs %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestUnsquashfsReadsTheMetadata(t *testing.T) {
	image := write(t, sample())
	list := unsquashfs(t, "-lln", "-UTC", "-d", "", image)
	for _, want := range []string{
		"drwxr-xr-x 0/0                     326 2026-01-01 00:00 ",
		"-rwsr-xr-x 0/0                       9 2026-01-01 00:00 /twin",
		"-rwsr-xr-x 0/0                       9 2026-01-01 00:00 /deep/er/twin",
		"-rw---S--- 1000/4000000000           5 1970-01-01 00:00 /owned",
		"drwxrwxrwt 0/0                       3 2026-01-01 00:00 /tmp",
		"lrwxrwxrwx 0/0                       7 2026-01-01 00:00 /link -> deep/er",
		"crw-rw-rw- 0/0                   1,  3 2026-01-01 00:00 /null",
		"brw-rw---- 0/6                   8, 17 2026-01-01 00:00 /disk",
		"prw------- 0/0                       0 2026-01-01 00:00 /fifo",
		"srw------- 0/0                       0 2026-01-01 00:00 /socket",
		"-rw-r--r-- 0/0                       0 2026-01-01 00:00 /empty",
	} {
		if !slices.Contains(strings.Split(list, "\n"), want) {
			t.Errorf("unsquashfs does not list %q", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(list) {
			if !strings.Contains(line, "/many/") {
				t.Log(line)
			}
		}
	}
	if n := strings.Count(list, "/many/"); n != 3000 {
		t.Errorf("/many has %d names, want 3000", n)
	}
}

func TestUnsquashfsReadsTheContents(t *testing.T) {
	image, root := write(t, sample()), sample()
	check := func(name string, n *Node) {
		r, _ := n.Open()
		want, _ := io.ReadAll(r)
		if got := unsquashfs(t, "-cat", image, name); got != string(want) {
			t.Errorf("%s: %d bytes with sum %x, want %d", name, len(got), sha256.Sum256([]byte(got)), len(want))
		}
	}
	for name, n := range root.Children {
		if n.Mode&typeMask == typeFile {
			check(name, n)
		}
	}
	check("deep/er/twin", root.Children["twin"])
	check("many/a-rather-long-name-for-a-file-02999", root.Children["many"].Children["a-rather-long-name-for-a-file-02999"])
}

func TestUnsquashfsMakesHardLinksAndAttributes(t *testing.T) {
	root := folder(map[string]*Node{})
	twin := regular([]byte("two names"))
	twin.Xattrs = map[string]string{"user.note": "kept", "user.empty": ""}
	root.Children["a"], root.Children["b"] = twin, folder(map[string]*Node{"c": twin})
	dir := filepath.Join(t.TempDir(), "out")
	unsquashfs(t, "-q", "-n", "-user-xattrs", "-d", dir, write(t, root))
	a, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := os.Stat(filepath.Join(dir, "b", "c")); err != nil || !os.SameFile(a, c) {
		t.Errorf("a and b/c are two files (%v)", err)
	}
}

// TestAnotherReaderReadsTheAttributes goes by rdsquashfs of squashfs-tools-ng: to see security.* in an unpacked tree
// takes root.
func TestAnotherReaderReadsTheAttributes(t *testing.T) {
	image := write(t, sample())
	for name, n := range sample().Children {
		out, err := exec.CommandContext(t.Context(), "rdsquashfs", "-x", name, image).Output()
		if err != nil {
			t.Fatalf("rdsquashfs -x %s: %v", name, err)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if hexed, ok := strings.CutPrefix(value, "0x"); ok {
				b, _ := hex.DecodeString(hexed)
				value = string(b)
			}
			got[key] = value
		}
		if !maps.Equal(got, n.Xattrs) {
			t.Errorf("%s has %q, want %q", name, got, n.Xattrs)
		}
	}
}

func TestSameTreeSameBytes(t *testing.T) {
	read := func() []byte {
		b, err := os.ReadFile(write(t, sample()))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := read()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !bytes.Equal(first, read()) {
		t.Error("one core and all cores make different file systems")
	}
}

func TestRefusals(t *testing.T) {
	twice := folder(nil)
	short := regular([]byte("short"))
	short.Size = 10
	broken := regular([]byte("x"))
	broken.Open = func() (io.ReadCloser, error) { return nil, errors.New("the image is damaged") }
	acl := regular(nil)
	acl.Xattrs = map[string]string{"system.posix_acl_access": "x"}
	for name, c := range map[string]struct {
		root *Node
		want string
	}{
		"a file as root":        {regular(nil), "the root is no folder"},
		"a folder twice":        {folder(map[string]*Node{"a": twice, "b": twice}), "b: a folder with two names, a is the other"},
		"a name too long":       {folder(map[string]*Node{strings.Repeat("n", 257): regular(nil)}), "a name of 257 bytes"},
		"a link to nowhere":     {folder(map[string]*Node{"l": {Mode: typeLink | 0o777}}), "l: a symbolic link of 0 bytes"},
		"no type":               {folder(map[string]*Node{"n": {Mode: 0o644}}), "n: type 0 is unknown"},
		"a file that ends":      {folder(map[string]*Node{"s": short}), "s: it ends before its size"},
		"a file that is broken": {folder(map[string]*Node{"s": broken}), "s: the image is damaged"},
		"an ACL": {
			folder(map[string]*Node{"f": acl}), "f: extended attribute system.posix_acl_access: squashfs has user.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Write(t.Context(), &fills{left: 1 << 30}, c.root, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestErrorsOfTheDiskComeThrough(t *testing.T) {
	full := errors.New("full")
	for left := int64(0); left < 500_000; left += 70_000 {
		if _, err := Write(t.Context(), &fills{left, full}, sample(), Options{}); !errors.Is(err, full) {
			t.Errorf("full after %d bytes: %v", left, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, &fills{left: 1 << 30}, sample(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type fills struct {
	left int64
	err  error
}

func (f *fills) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= int64(len(p)); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}
