package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// testDir is a jar in a folder, with a disk.
func testDir(t *testing.T) (*jar, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"belljar", "build", "inputs", "tmp", "disks"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/disks/outputs", make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return folderJar(dir), dir
}

var clock = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// members lists an archive as lines: type, mode, owner, name, link, mtime, size, attributes.
func members(t *testing.T, disk string, s wire.Stream) []string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := stream.NewReader(io.LimitReader(f, s.Size))
	if m, err := r.Next(); err != nil || m.Path != archiveName {
		t.Fatal(m, err)
	}
	tr := tar.NewReader(r)
	var all []string
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %o %d:%d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		line += fmt.Sprintf(" %d %d", h.ModTime.Unix(), h.Size)
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, "SCHILY.xattr.") {
				line += fmt.Sprintf(" %s=%q", k, v)
			}
		}
		all = append(all, line)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Total().Size != s.Size || r.Total().Digest != s.Digest {
		t.Errorf("the stream ends with %v and comes to %+v, said was %+v", err, r.Total(), s)
	}
	return all
}

func TestCapture(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("whiteouts and trusted attributes are root's")
	}
	j, dir := testDir(t)
	up := dir + "/upper"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(up+"/etc/opaque", 0o755))
	must(os.MkdirAll(up+"/var/log/apt", 0o755))
	must(os.MkdirAll(up+"/var/cache/ldconfig", 0o700))
	must(os.WriteFile(up+"/etc/b", []byte("bee"), 0o640))
	must(os.Chown(up+"/etc/b", 7, 42))
	must(os.Chtimes(up+"/etc/b", clock.Add(-time.Hour), clock.Add(-time.Hour)))
	must(os.WriteFile(up+"/etc/machine-id", []byte("id"), 0o644))
	must(os.WriteFile(up+"/var/log/apt/term.log", []byte("log"), 0o644))
	must(os.WriteFile(up+"/etc/setuid", nil, 0o755))
	must(os.Chmod(up+"/etc/setuid", 0o4755|os.ModeSetuid))
	must(os.Link(up+"/etc/b", up+"/etc/c"))
	must(os.Symlink("b", up+"/etc/a"))
	must(unix.Mkfifo(up+"/fifo", 0o600))
	l, err := net.Listen("unix", up+"/socket")
	must(err)
	defer l.Close()
	mknod := unix.Mknod(up+"/etc/gone", unix.S_IFCHR, 0)
	if mknod == nil {
		must(os.Link(up+"/etc/gone", up+"/etc/gone2")) // overlayfs makes whiteouts as links of one inode
	}
	xattr := unix.Setxattr(up+"/etc/opaque", "trusted.overlay.opaque", []byte("y"), 0)
	must(errors.Join(ignoreUnsupported(unix.Setxattr(up+"/etc/opaque", "trusted.overlay.impure", []byte("y"), 0)),
		ignoreUnsupported(unix.Setxattr(up+"/etc/b", "user.note", []byte("a\x00b"), 0))))
	if mknod != nil || xattr != nil {
		t.Skipf("this filesystem cannot hold an overlay's marks: %v, %v", mknod, xattr)
	}

	req := &wire.Capture{
		Upper: up, Device: "outputs", Clock: clock,
		Exclude: []string{"/etc/machine-id", "var/log/*", "var/cache"},
	}
	got, err := capture(t.Context(), j, req)
	must(err)
	now := clock.Unix()
	want := []string{
		fmt.Sprintf("5 755 0:0 etc/ %d 0", now),
		fmt.Sprintf("2 777 0:0 etc/a -> b %d 0", now),
		fmt.Sprintf(`0 640 7:42 etc/b %d 3 SCHILY.xattr.user.note="a\x00b"`, now-3600),
		fmt.Sprintf("1 640 7:42 etc/c -> etc/b %d 0", now-3600),
		"3 0 0:0 etc/gone 0 0",
		"3 0 0:0 etc/gone2 0 0",
		fmt.Sprintf(`5 755 0:0 etc/opaque/ %d 0 SCHILY.xattr.trusted.overlay.opaque="y"`, now),
		fmt.Sprintf("0 4755 0:0 etc/setuid %d 0", now),
		fmt.Sprintf("6 600 0:0 fifo %d 0", now),
		fmt.Sprintf("5 755 0:0 var/ %d 0", now),
		fmt.Sprintf("5 755 0:0 var/log/ %d 0", now),
	}
	list := members(t, dir+"/disks/outputs", got.Stream)
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	if got.Entries != len(want) || len(got.Skipped) != 1 || got.Skipped[0] != "socket" {
		t.Errorf("captured = %+v", got)
	}
	again, err := capture(t.Context(), j, req)
	must(err)
	if again.Stream != got.Stream {
		t.Error("two archives of one folder differ")
	}

	must(unix.Setxattr(up+"/etc/b", "trusted.overlay.metacopy", nil, 0))
	if _, err := capture(t.Context(), j, req); err == nil || !strings.Contains(err.Error(), "metacopy=off") {
		t.Errorf("half a file was captured: %v", err)
	}
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

func TestCaptureRefuses(t *testing.T) {
	j, dir := testDir(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.WriteFile(dir+"/build/x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		ctx   context.Context
		req   wire.Capture
		words string
	}{
		"no upper":     {t.Context(), wire.Capture{Upper: dir + "/none", Device: "outputs"}, "none"},
		"no disk":      {t.Context(), wire.Capture{Upper: dir, Device: "gone"}, "gone"},
		"disk by path": {t.Context(), wire.Capture{Upper: dir, Device: "../build/x"}, "serial"},
		"pattern":      {t.Context(), wire.Capture{Upper: dir, Device: "outputs", Exclude: []string{"["}}, `"["`},
		"cancelled":    {cancelled, wire.Capture{Upper: dir + "/build", Device: "outputs"}, "cancel"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := capture(tt.ctx, j, &tt.req); err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v does not say %q", err, tt.words)
			}
		})
	}
}
