package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// outputsOf writes the outputs of a stage whose script left what make makes in a folder, and lists what is on the disk.
func outputsOf(t *testing.T, names []string, make func(t *testing.T, out string)) ([]string, error) {
	t.Helper()
	j, dir := testDir(t)
	out := dir + "/build/out"
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	make(t, out)
	s, err := writeOutputs(t.Context(), j, &wire.Stage{OutDir: out, Outputs: names, Device: "outputs"}, nil)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(dir + "/disks/outputs")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	r := stream.NewReader(io.LimitReader(f, s.Size))
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%d %o %s %s %q", m.Type, m.Mode, m.Path, m.Link, data))
	}
}

// setUp ends a test that cannot be set up.
func setUp(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFolderAsOutput(t *testing.T) {
	list, err := outputsOf(t, []string{"tc/", "a"}, func(t *testing.T, out string) {
		write(t, out+"/tc/lib/x.a", "lib")
		write(t, out+"/tc/bin/cc", "cc")
		write(t, out+"/tc/bin/secret", "mine")
		write(t, out+"/a", "a")
		setUp(t, os.Chmod(out+"/tc/bin/cc", 0o4711), os.Chmod(out+"/tc/bin/secret", 0o600), os.Chmod(out+"/tc/lib", 0o700),
			os.Link(out+"/tc/bin/cc", out+"/tc/bin/gcc"), os.Mkdir(out+"/tc/empty", 0o777),
			os.Link(out+"/a", out+"/tc/a"), // of another output: a file of its own here
			os.Symlink("../bin/./cc", out+"/tc/lib/cc"), os.Symlink("none", out+"/tc/dangling"))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`1 644 a  "a"`,
		`2 755 tc  ""`, `1 644 tc/a  "a"`,
		`2 755 tc/bin  ""`, `1 755 tc/bin/cc  "cc"`, `4 755 tc/bin/gcc tc/bin/cc ""`, `1 644 tc/bin/secret  "mine"`,
		`3 777 tc/dangling none ""`, `2 755 tc/empty  ""`,
		`2 755 tc/lib  ""`, `3 777 tc/lib/cc ../bin/./cc ""`, `1 644 tc/lib/x.a  "lib"`,
	}
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
}

func TestBadOutputs(t *testing.T) {
	for name, tt := range map[string]struct {
		output string
		make   func(t *testing.T, out string)
		words  string
	}{
		"missing":           {"rom", func(*testing.T, string) {}, "output rom is missing: the script ended well but did not make it"},
		"missing folder":    {"tc/", func(*testing.T, string) {}, "output tc/ is missing"},
		"file for a folder": {"tc/", func(t *testing.T, out string) { write(t, out+"/tc", "") }, "output tc/ is not a folder but a regular file"},
		"folder for a file": {"tc", func(t *testing.T, out string) { write(t, out+"/tc/x", "") }, "output tc is not a regular file but a folder: the folder as a whole is named tc/"},
		"symbolic link":     {"rom", func(t *testing.T, out string) { setUp(t, os.Symlink("/etc/passwd", out+"/rom")) }, "output rom is not a regular file but a symbolic link, to /etc/passwd"},
		"FIFO":              {"rom", func(t *testing.T, out string) { setUp(t, unix.Mkfifo(out+"/rom", 0o600)) }, "output rom is not a regular file but a FIFO"},
		"through a link":    {"etc/passwd", func(t *testing.T, out string) { setUp(t, os.Symlink("/etc", out+"/etc")) }, "output etc/passwd: "},
		"absolute link in it": {"tc/", func(t *testing.T, out string) {
			write(t, out+"/tc/a", "")
			setUp(t, os.Symlink("/usr/bin/ld", out+"/tc/ld"))
		}, "output tc/: the link tc/ld leads out of the folder, to /usr/bin/ld"},
		"link above it": {"tc/", func(t *testing.T, out string) {
			write(t, out+"/tc/bin/a", "")
			setUp(t, os.Symlink("../../x", out+"/tc/bin/up"))
		}, "the link tc/bin/up leads out of the folder, to ../../x"},
		"FIFO in it":           {"tc/", func(t *testing.T, out string) { write(t, out+"/tc/a", ""); setUp(t, unix.Mkfifo(out+"/tc/f", 0o600)) }, "output tc/: tc/f is a FIFO"},
		"socket in it":         {"tc/", func(t *testing.T, out string) { write(t, out+"/tc/a", ""); listen(t, out+"/tc/s") }, "output tc/: tc/s is a socket"},
		"a line break in it":   {"tc/", func(t *testing.T, out string) { write(t, out+"/tc/a\nb", "") }, `path "tc/a\nb" has a control character`},
		"a name not in UTF-8":  {"tc/", func(t *testing.T, out string) { write(t, out+"/tc/\xff", "") }, `path "tc/\xff"`},
		"more than can be had": {"rom", func(t *testing.T, out string) { write(t, out+"/rom", ""); setUp(t, os.Truncate(out+"/rom", 1<<40)) }, "more than 68719476736 bytes of content"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := outputsOf(t, []string{tt.output}, tt.make)
			if _, theirs := errors.AsType[*outputError](err); !theirs || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v does not say %q", err, tt.words)
			}
		})
	}
}

func listen(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	setUp(t, err)
	t.Cleanup(func() { l.Close() })
}

// A file is 8 GiB long and has 3 bytes in it: neither the time nor the disk that its holes would take is taken.
func TestSparseOutput(t *testing.T) {
	j, dir := testDir(t)
	f, err := os.Create(dir + "/build/sparse")
	setUp(t, err)
	for _, at := range []int64{0, 1 << 30, 8<<30 - 1} {
		if _, err := f.WriteAt([]byte{1}, at); err != nil {
			t.Fatal(err)
		}
	}
	setUp(t, f.Close())
	s, err := writeOutputs(t.Context(), j, &wire.Stage{OutDir: dir + "/build", Outputs: []string{"sparse"}, Device: "outputs"}, nil)
	setUp(t, err)
	if s.Size > 1<<20 {
		t.Errorf("the stream has %d bytes", s.Size)
	}
	disk, err := os.Open(dir + "/disks/outputs")
	setUp(t, err)
	defer disk.Close()
	r := stream.NewReader(disk)
	m, err := r.Next()
	if err != nil || m.Size != 8<<30 {
		t.Fatal(m, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Total().Content != 8<<30 {
		t.Errorf("%v, %+v", err, r.Total())
	}
}

// Whoever writes to an output while it is read is found out, whatever was read.
func TestChangingOutput(t *testing.T) {
	for name, change := range map[string]func(f *os.File, i int) error{
		"grows":            func(f *os.File, _ int) error { _, err := f.Write([]byte{0}); return err },
		"shrinks":          func(f *os.File, i int) error { return f.Truncate(int64(16<<20 - i)) },
		"keeps its length": func(f *os.File, i int) error { _, err := f.WriteAt([]byte{byte(i)}, 7); return err },
	} {
		t.Run(name, func(t *testing.T) {
			j, dir := testDir(t)
			out := dir + "/build/rom"
			setUp(t, os.WriteFile(out, make([]byte, 16<<20), 0o644), os.Truncate(dir+"/disks/outputs", 64<<20))
			flags := os.O_WRONLY
			if name == "grows" {
				flags |= os.O_APPEND
			}
			f, err := os.OpenFile(out, flags, 0)
			setUp(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				defer f.Close()
				for i := 0; ctx.Err() == nil; i++ {
					if err := change(f, i); err != nil {
						done <- err
						return
					}
					time.Sleep(10 * time.Microsecond)
				}
				done <- nil
			}()
			time.Sleep(time.Millisecond)
			_, err = writeOutputs(t.Context(), j, &wire.Stage{OutDir: dir + "/build", Outputs: []string{"rom"}, Device: "outputs"}, nil)
			cancel()
			setUp(t, <-done)
			if _, theirs := errors.AsType[*outputError](err); !theirs || !strings.Contains(err.Error(), "output rom changed while it was read: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}
