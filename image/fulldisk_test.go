package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fault/fulldisk"
)

// filler is something that writes an image: to is where the result goes, temp where it works.
type filler func(ctx context.Context, to, temp string) error

// big are bytes that do not repeat, three times as many as there is room for.
func big() []byte {
	b := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	for i := range b {
		b[i] = 'A' + b[i]%32 // none that an entry's line would take for its type
	}
	return b
}

// into calls f with a file at path, which it leaves as the caller of the package would.
func into(path string, f func(*os.File) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f(out), out.Close(), os.Remove(path))
}

// fillers needs a name for each way in which an image is written.
func fillers(tb testing.TB) map[string]filler {
	heavy := deb(tb, "heavy", "", nil, e("./usr/heavy="+string(big())))
	below, err := os.CreateTemp("", "below-*")
	if err != nil {
		tb.Fatal(err)
	}
	os.Remove(below.Name())
	tb.Cleanup(func() { below.Close() })
	err = WriteBase(context.Background(), below, []Package{passwd(tb)}, BaseOptions{Clock: testClock})
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]filler{
		"unpack": func(ctx context.Context, to, temp string) error {
			return into(filepath.Join(to, "base"), func(out *os.File) error {
				return WriteBase(ctx, out, []Package{passwd(tb), heavy}, BaseOptions{Clock: testClock, TempDir: temp})
			})
		},
		"merge": func(ctx context.Context, to, temp string) error {
			diff := tarball(tb, e("new="+string(big())))
			return into(filepath.Join(to, "root"), func(out *os.File) error {
				_, err := Merge(ctx, out, below, bytes.NewReader(diff), MergeOptions{Clock: testClock, TempDir: temp})
				return err
			})
		},
		"sources": func(ctx context.Context, to, temp string) error {
			src := Tree{Name: "x", Parts: []Part{part("x.tar", tarball(tb, e("x/big="+string(big()))))}}
			return into(filepath.Join(to, "inputs"), func(out *os.File) error {
				return WriteTree(ctx, out, []Tree{src}, TreeOptions{Clock: testClock, TempDir: temp})
			})
		},
		"plain-source": func(ctx context.Context, to, temp string) error {
			src := Tree{Name: "x", Parts: []Part{part("x.bin", big())}}
			return into(filepath.Join(to, "inputs"), func(out *os.File) error {
				return WriteTree(ctx, out, []Tree{src}, TreeOptions{Clock: testClock, TempDir: temp})
			})
		},
		"extract": func(_ context.Context, to, _ string) error {
			r, err := heavy.Open()
			if err != nil {
				return err
			}
			return ExtractFile(r, "usr/heavy", filepath.Join(to, "heavy"))
		},
	}
}

// A disk that fills up while an image is written, wherever that is: the host's fault, which folder, what to do, nothing
// left; and with room the same call goes well.
func TestFullDisk(t *testing.T) {
	for name, fill := range fillers(t) {
		t.Run(name, func(t *testing.T) {
			fulldisk.Each(t, func(t *testing.T, d *fulldisk.Disk) { wantFull(t, d, fill, d.Dir, t.TempDir()) })
		})
		if name == "extract" {
			continue // it works where its result goes
		}
		t.Run(name+"/work", func(t *testing.T) {
			fulldisk.Each(t, func(t *testing.T, d *fulldisk.Disk) { wantFull(t, d, fill, t.TempDir(), d.Dir) })
		})
	}
}

func wantFull(t *testing.T, d *fulldisk.Disk, fill filler, to, temp string) {
	d.Leave(1 << 20)
	err := fill(t.Context(), to, temp)
	says := map[fulldisk.How][]string{
		fulldisk.Tmpfs: {
			"disk full: " + d.Dir + " has ", " bytes free: ", "no space left on device",
			"\nremedy: Make room on the disk of " + d.Dir + " ('belljar clean'",
		},
		fulldisk.Limit: {"file too large for ", "\nremedy: Raise the limit on a file's size (ulimit -f)"},
	}[d.How]
	text := fmt.Sprintf("%v: %v", fault.KindOf(err), err)
	for _, e := range fault.Chain(err) {
		if e.Remedy != "" {
			text += "\nremedy: " + e.Remedy
		}
	}
	for _, s := range append(says, "host fault: ") {
		if !strings.Contains(text, s) {
			t.Errorf("it does not say %q", s)
		}
	}
	if n := strings.Count(text, "\nremedy: "); n != 1 {
		t.Errorf("it gives %d remedies, want 1", n)
	}
	t.Log(text)
	for _, dir := range []string{to, temp} {
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	d.MakeRoom()
	if err := fill(t.Context(), to, temp); err != nil {
		t.Errorf("with room: %v", err)
	}
}

func TestDiskFaults(t *testing.T) {
	for errno, says := range map[syscall.Errno]string{
		unix.ENOSPC: "disk full", unix.EDQUOT: "disk full", unix.EFBIG: "file too large", unix.EROFS: "may not write",
		unix.EACCES: "may not write", unix.EIO: "reports errors",
	} {
		err := diskFault("write image", "/some/folder", fmt.Errorf("erofs: %w", &os.PathError{Op: "write", Path: "x", Err: errno}))
		wantFault(t, err, fault.Host, says, "write image: ", "/some/folder")
		if again := diskFault("outer", "/other", fmt.Errorf("around: %w", err)); strings.Contains(again.Error(), "/other") {
			t.Errorf("told twice: %v", again)
		}
	}
	other := errors.New("of the package")
	if err := diskFault("write image", "/", other); err != other { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	if err := diskFault("write image", "/", nil); err != nil {
		t.Error(err)
	}
}

// A scratch disk is sparse, but its own tables take room too.
func TestScratchOnAFullDisk(t *testing.T) {
	fulldisk.Each(t, func(t *testing.T, d *fulldisk.Disk) {
		d.Leave(64 << 10)
		err := Scratch(filepath.Join(d.Dir, "scratch"), 8<<30)
		if fault.KindOf(err) != fault.Host || fault.Chain(err)[0].Remedy == "" {
			t.Errorf("%v (%s), want a host fault with a remedy", err, fault.KindOf(err))
		}
	})
}
