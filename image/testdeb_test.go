package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testClock = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// entry is one line of a test's tarball: "path" with a type by its form.
//
//	dir/           a folder
//	file=content   a file
//	link->target   a symbolic link
//	hard=>target   a hard link
type entry struct {
	line string
	mode int64
	uid  int
	when time.Time
}

func e(line string) entry { return entry{line: line} }

func tarball(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: x.mode, Uid: x.uid, ModTime: x.when, Format: tar.FormatGNU}
		if h.ModTime.IsZero() {
			h.ModTime = testClock.Add(-time.Hour)
		}
		data := ""
		if name, to, ok := strings.Cut(x.line, "->"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, name, to
		} else if name, to, ok := strings.Cut(x.line, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, to
		} else if name, content, ok := strings.Cut(x.line, "="); ok {
			h.Name, data = name, content
		} else {
			h.Typeflag, h.Name = tar.TypeDir, x.line
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
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

// deb makes a package (deb(5)) of a control paragraph's tail, other control members, and data entries.
func deb(t testing.TB, name, fields string, members map[string]string, entries ...entry) Package {
	t.Helper()
	control := []entry{e("control=Package: " + name + "\nVersion: 1.0\nArchitecture: amd64\n" + fields +
		"Description: test\n")}
	for member, text := range members {
		control = append(control, entry{line: member + "=" + text, mode: 0o755})
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar", tarball(t, control...)}, {"data.tar", tarball(t, entries...)},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return Package{Name: name, Version: "1.0", Arch: "amd64", Open: opener(b.Bytes())}
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// passwd is the package without which no base layer can be.
func passwd(t testing.TB) Package {
	return deb(t, "base-passwd", "", nil,
		e("./usr/share/base-passwd/passwd.master=root:*:0:0::/root:/bin/sh\n"),
		e("./usr/share/base-passwd/group.master=root:*:0:\n"))
}

func tempFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func base(t testing.TB, pkgs ...Package) (*os.File, error) {
	out := tempFile(t)
	return out, WriteBase(context.Background(), out, pkgs, BaseOptions{Clock: testClock, TempDir: t.TempDir()})
}

// root is the file system on a root disk.
func root(disk io.ReaderAt) io.ReaderAt { return io.NewSectionReader(disk, partStart, 1<<40) }

func mustTree(t testing.TB, r io.ReaderAt) *tree {
	t.Helper()
	tr, err := readErofs(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// show writes a node in one line: mode, owner, seconds before the clock, content.
func show(t testing.TB, tr *tree, name string) string {
	t.Helper()
	n := tr.get(name)
	if n == nil {
		return "absent"
	}
	s := fmt.Sprintf("%s %d:%d", goMode(n.mode), n.uid, n.gid)
	switch n.mode & typeMask {
	case typeFile:
		data, err := n.read(1 << 20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s += fmt.Sprintf(" %q", data)
	case typeLink:
		s += " -> " + n.link
	}
	return s
}

func content256(t testing.TB, f *os.File) string {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
