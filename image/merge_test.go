package image

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// upper makes the tar stream of an overlay's upper directory.
func upper(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data, h.Size = "new", 3
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.ModTime = testClock.Add(time.Hour)
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func overlayAttr(name, value string) map[string]string {
	return map[string]string{"SCHILY.xattr.trusted.overlay." + name: value}
}

func merge(t testing.TB, base io.ReaderAt, diff []byte) (*os.File, error) {
	out := tempFile(t)
	opts := MergeOptions{Clock: testClock, TempDir: t.TempDir()}
	_, err := Merge(context.Background(), out, base, bytes.NewReader(diff), opts)
	return out, err
}

func TestMerge(t *testing.T) {
	below, err := base(t, passwd(t), deb(t, "p", "", nil,
		e("./d/keep=1"), e("./d/gone=2"), e("./o/hidden=3"), e("./f=4"),
		e("./var/log/p/"), entry{line: "./usr/bin/su=s", mode: 0o4755}))
	if err != nil {
		t.Fatal(err)
	}
	diff := upper(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "./d/", Typeflag: tar.TypeDir, Mode: 0o700, PAXRecords: overlayAttr("impure", "y")},
		tar.Header{Name: "./d/gone", Typeflag: tar.TypeChar, Mode: 0o600},
		tar.Header{Name: "./d/new", Typeflag: tar.TypeReg, Mode: 0o2755, Uid: 5, Gid: 70000},
		tar.Header{Name: "./d/hard", Typeflag: tar.TypeLink, Linkname: "./d/new"},
		tar.Header{Name: "./o/", Typeflag: tar.TypeDir, PAXRecords: overlayAttr("opaque", "y")},
		tar.Header{Name: "./o/seen", Typeflag: tar.TypeSymlink, Linkname: "../f"},
		tar.Header{Name: "./o/too", Typeflag: tar.TypeLink, Linkname: "./o/seen"},
		tar.Header{Name: "./f", Typeflag: tar.TypeDir},
		tar.Header{Name: "./f/below", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./dev/x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 259},
		tar.Header{Name: "./etc/machine-id", Typeflag: tar.TypeReg},
		tar.Header{Name: "./etc/passwd-", Typeflag: tar.TypeReg},
		tar.Header{Name: "./etc/ssh/ssh_host_rsa_key", Typeflag: tar.TypeReg},
		tar.Header{Name: "./var/log/p/log", Typeflag: tar.TypeReg},
		tar.Header{Name: "./var/log/lastlog", Typeflag: tar.TypeReg, Mode: 0o664, Gid: 43},
		tar.Header{Name: "./var/lib/dpkg/status-old", Typeflag: tar.TypeReg},
		tar.Header{Name: "./zero", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 259},
	)
	out, err := merge(t, below, diff)
	if err != nil {
		t.Fatal(err)
	}
	tr := mustTree(t, root(out))
	for name, want := range map[string]string{
		"d":                        "drwx------ 0:0",
		"d/keep":                   `-rw-r--r-- 0:0 "1"`,
		"d/gone":                   "absent",
		"d/new":                    `grwxr-xr-x 5:70000 "new"`,
		"d/hard":                   `grwxr-xr-x 5:70000 "new"`,
		"o/hidden":                 "absent",
		"o/seen":                   "Lrwxrwxrwx 0:0 -> ../f",
		"o/too":                    "Lrwxrwxrwx 0:0 -> ../f",
		"f/below":                  `-rw-r--r-- 0:0 "new"`,
		"usr/bin/su":               `urwxr-xr-x 0:0 "s"`,
		"dev/x":                    "absent",
		"zero":                     "Dcrwxr-xr-x 0:0",
		"etc/machine-id":           `-r--r--r-- 0:0 ""`,
		"etc/passwd-":              "absent",
		"etc/ssh/ssh_host_rsa_key": "absent",
		"var/log/p":                "drwxr-xr-x 0:0",
		"var/log/p/log":            "absent",
		"var/log/lastlog":          `-rw-rw-r-- 0:43 ""`,
		"var/lib/dpkg/status-old":  "absent",
		"var/lib/dpkg/status":      show(t, mustTree(t, root(below)), "var/lib/dpkg/status"),
		policyRcD:                  "absent",
	} {
		if got := show(t, tr, name); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
	if tr.get("d/hard") != tr.get("d/new") {
		t.Error("a hard link became a file of its own")
	}
	if major, minor := decodeDev(tr.get("zero").rdev); major != 1 || minor != 259 {
		t.Errorf("the device came out as %d:%d", major, minor)
	}
	for name, n := range tr.all() {
		if n.mtime > testClock.Unix() || len(n.xattrs) > 0 {
			t.Errorf("%s has mtime %d and xattrs %v", name, n.mtime, n.xattrs)
		}
	}
	again, err := merge(t, below, diff)
	if err != nil {
		t.Fatal(err)
	}
	if content256(t, out) != content256(t, again) {
		t.Error("the same input gave another disk")
	}
}

func TestRootDiskHasAPartitionTable(t *testing.T) {
	below, err := base(t, passwd(t))
	if err != nil {
		t.Fatal(err)
	}
	out, err := merge(t, below, upper(t))
	if err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(out, sectorSize, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Partitions) == 0 || table.Partitions[0].Start != partStart/sectorSize || table.RecoveredFromBackup {
		t.Fatalf("got %+v", table)
	}
	info, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Verify(out, uint64(info.Size())); err != nil {
		t.Error(err)
	}
}

func TestMergeRefuses(t *testing.T) {
	below, err := base(t, passwd(t))
	if err != nil {
		t.Fatal(err)
	}
	file := upper(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})
	cases := []struct {
		name string
		diff []byte
		want string
	}{
		{"climbing", upper(t, tar.Header{Name: "../a", Typeflag: tar.TypeReg}), "leaves the root"},
		{"absolute", upper(t, tar.Header{Name: "/a", Typeflag: tar.TypeReg}), "leaves the root"},
		{"cut off", file[:513], "unexpected EOF"},
		{"redirected folder", upper(t, tar.Header{
			Name: "d", Typeflag: tar.TypeDir, PAXRecords: overlayAttr("redirect", "/x"),
		}), "redirect"},
		{"metadata only", upper(t, tar.Header{
			Name: "a", Typeflag: tar.TypeReg, PAXRecords: overlayAttr("metacopy", "y"),
		}), "metacopy"},
		{"link to nothing", upper(t, tar.Header{
			Name: "a", Typeflag: tar.TypeLink, Linkname: "b",
		}), "no file before it"},
		{"below a file", upper(t, tar.Header{Name: "etc/passwd/x", Typeflag: tar.TypeReg}), "passwd on the way"},
		{"no tar", bytes.Repeat([]byte("rubbish "), 200), "invalid tar header"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := merge(t, below, c.diff)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
	if _, err := merge(t, bytes.NewReader(make([]byte, 8192)), upper(t)); err == nil {
		t.Error("a base that is no EROFS was taken")
	}
}

// FuzzDiff: a guest wrote the difference; whatever it wrote, merging ends and stays inside the tree.
func FuzzDiff(f *testing.F) {
	f.Add(upper(f, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "a", Typeflag: tar.TypeChar}))
	f.Add(upper(f, tar.Header{Name: "d/", Typeflag: tar.TypeDir, PAXRecords: overlayAttr("opaque", "y")}))
	sp, err := newSpool(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { sp.Close() })
	f.Fuzz(func(t *testing.T, raw []byte) {
		tr := newTree()
		if err := tr.text("a", 0o644, testClock, "x"); err != nil {
			t.Fatal(err)
		}
		_ = applyDiff(context.Background(), tr, tar.NewReader(bytes.NewReader(raw)), sp, 1<<20)
		for name := range tr.all() {
			if strings.Contains("/"+name+"/", "/../") {
				t.Errorf("%q came into the tree", name)
			}
		}
	})
}
