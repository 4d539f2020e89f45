package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func trees(t testing.TB, all ...Tree) (*os.File, error) {
	out := tempFile(t)
	return out, WriteTree(context.Background(), out, all, TreeOptions{Clock: testClock, TempDir: t.TempDir()})
}

func part(name string, data []byte) Part { return Part{File: name, Open: opener(data)} }

func TestWriteTree(t *testing.T) {
	debian, err := DebianTree("deb", []Part{
		part("x_1-1.dsc", nil),
		part("x_1-1.debian.tar.xz", tarball(t, e("debian/"), e("debian/rules=new"))),
		part("x_1.orig-comp.tar.gz", gz(t, tarball(t, e("comp-7/"), e("comp-7/c=c")))),
		part("x_1.orig.tar.gz", gz(t, tarball(t, e("x-1/"), e("x-1/debian/rules=old"), e("x-1/debian/old=o"),
			e("x-1/comp/stub=s"), entry{line: "x-1/configure=#!", mode: 0o700, uid: 55}, e("x-1/l->configure"),
			e("x-1/hard=>x-1/configure")))),
		part("x_1.orig.tar.gz.asc", nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	all := []Tree{
		debian,
		{Name: "flat", Parts: []Part{part("flat.tar.zst", zst(t, tarball(t, e("a=1"), e("b/c=2"))))}},
		{Name: "file", Parts: []Part{part("logo.gz", gz(t, []byte("an image")))}},
		{Name: "empty", Parts: []Part{part("nothing", nil)}},
		{Name: "mac", Parts: []Part{part("a.tar", tarball(t, e("d/x11->/opt/X11/include")))}},
	}
	out, err := trees(t, all...)
	if err != nil {
		t.Fatal(err)
	}
	tr := mustTree(t, out)
	for name, want := range map[string]string{
		"deb":              "drwxr-xr-x 1000:1000",
		"deb/configure":    `-rwxr--r-- 1000:1000 "#!"`,
		"deb/hard":         `-rwxr--r-- 1000:1000 "#!"`,
		"deb/l":            "Lrwxrwxrwx 1000:1000 -> configure",
		"deb/debian/rules": `-rw-r--r-- 1000:1000 "new"`,
		"deb/debian/old":   "absent",
		"deb/comp/c":       `-rw-r--r-- 1000:1000 "c"`,
		"deb/comp/stub":    "absent",
		"flat/a":           `-rw-r--r-- 1000:1000 "1"`,
		"flat/b/c":         `-rw-r--r-- 1000:1000 "2"`,
		"file/logo.gz":     "-rw-r--r-- 1000:1000 " + fmt.Sprintf("%q", gz(t, []byte("an image"))),
		"empty/nothing":    `-rw-r--r-- 1000:1000 ""`,
		"mac/x11":          "Lrwxrwxrwx 1000:1000 -> /opt/X11/include", // the guest's, if it has one
	} {
		if got := show(t, tr, "sources/"+name); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
	again, err := trees(t, all...)
	if err != nil {
		t.Fatal(err)
	}
	if content256(t, out) != content256(t, again) {
		t.Error("the same input gave another disk")
	}
}

func TestWriteTreeRefuses(t *testing.T) {
	ok := part("a.tar", tarball(t, e("a=1")))
	cases := []struct {
		name string
		tree Tree
		want string
	}{
		{"climbing", Tree{Name: "x", Parts: []Part{part("a.tar", tarball(t, e("../a=1")))}}, "../a: the path leaves"},
		{"absolute", Tree{Name: "x", Parts: []Part{part("a.tar", tarball(t, e("/a=1")))}}, "/a: the path leaves"},
		{"link out", Tree{Name: "x", Parts: []Part{part("a.tar", tarball(t, e("d/a->../../b")))}},
			"a is a symbolic link"},
		{"hard link out", Tree{Name: "x", Parts: []Part{part("a.tar", tarball(t, e("a=>../b")))}}, "no file before it"},
		{"cut", Tree{Name: "x", Parts: []Part{part("a.tgz", gz(t, tarball(t, e("a=1")))[:40])}}, "x: a.tgz"},
		{"name that climbs", Tree{Name: "../x", Parts: []Part{ok}}, "cannot be the name"},
		{"two parts that clash", Tree{Name: "x", Parts: []Part{ok, {File: "b.tar", Into: "a", Open: ok.Open}}},
			"a on the way"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := trees(t, c.tree)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
	if _, err := trees(t, Tree{Name: "x", Parts: []Part{ok}}, Tree{Name: "x", Parts: []Part{ok}}); err == nil {
		t.Error("two trees of one name were taken")
	}
}

func TestDebianTreeRefuses(t *testing.T) {
	for name, files := range map[string][]Part{
		"format 1.0":  {{File: "x_1.orig.tar.gz"}, {File: "x_1-1.diff.gz"}},
		"no upstream": {{File: "x_1-1.debian.tar.xz"}},
		"two natives": {{File: "x_1.tar.xz"}, {File: "y_1.tar.xz"}},
	} {
		if _, err := DebianTree("x", files); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzTar: a tarball from anywhere; whatever is in it, reading ends and nothing climbs.
func FuzzTar(f *testing.F) {
	f.Add(tarball(f, e("a/"), e("a/b=1"), e("a/c->b"), e("a/d=>a/b")))
	f.Add(tarball(f, e("../a=1")))
	sp, err := newSpool(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { sp.Close() })
	f.Fuzz(func(t *testing.T, raw []byte) {
		tr, err := readTar(context.Background(), bytes.NewReader(raw), sp, 1<<20)
		if err != nil {
			return
		}
		for name := range tr.all() {
			if strings.Contains("/"+name+"/", "/../") {
				t.Errorf("%q came into the tree", name)
			}
		}
	})
}
