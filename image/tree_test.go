package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	tr := newTree()
	for name, target := range map[string]string{
		"bin": "usr/bin", "usr/lib/up": "../../etc", "abs": "/usr/lib", "loop": "loop2", "loop2": "loop",
		"out": "../../../x",
	} {
		if err := tr.put(name, &node{mode: typeLink, link: target}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"bin/sh":         "usr/bin/sh",
		"bin":            "bin",
		"usr/lib/up/x/y": "etc/x/y",
		"abs/z":          "usr/lib/z",
		"abs/up/q":       "etc/q",
		"out/q":          "x/q",
		"plain/path":     "plain/path",
	} {
		if got, err := tr.resolve(name); err != nil || got != want {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
		}
	}
	if _, err := tr.resolve("loop/x"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop gave %v", err)
	}
}

func TestDeviceNumbers(t *testing.T) {
	// The values are those of new_encode_dev in include/linux/kdev_t.h.
	for _, c := range []struct{ major, minor, want uint32 }{
		{1, 3, 0x103}, {8, 0, 0x800}, {259, 7, 0x10307}, {1, 256, 0x100100}, {4095, 0xfffff, 0xffffffff},
	} {
		if got := encodeDev(c.major, c.minor); got != c.want {
			t.Errorf("%d:%d is %#x, want %#x", c.major, c.minor, got, c.want)
		}
		if major, minor := decodeDev(c.want); major != c.major || minor != c.minor {
			t.Errorf("%#x is %d:%d, want %d:%d", c.want, major, minor, c.major, c.minor)
		}
	}
}

func TestModes(t *testing.T) {
	for mode, want := range map[uint32]string{
		typeFile | 0o4755: "urwxr-xr-x", typeFile | 0o2711: "grwx--x--x", typeDir | 0o1777: "dtrwxrwxrwx",
		typeDir | 0o2775: "dgrwxrwxr-x", typeLink | 0o777: "Lrwxrwxrwx", typeChar | 0o600: "Dcrw-------",
		typeBlock | 0o660: "Drw-rw----", typeFifo | 0o644: "prw-r--r--", typeSocket | 0o777: "Srwxrwxrwx",
	} {
		if got := goMode(mode).String(); got != want {
			t.Errorf("%o became %s, want %s", mode, got, want)
		}
	}
}

// TestHardLinksInATree: what replaces a file, or takes it away, does so under one name; what changes it, under all.
func TestHardLinksInATree(t *testing.T) {
	tr := newTree()
	twin := &node{mode: typeFile | 0o644, mtime: testClock.Unix() + 1}
	for _, name := range []string{"a", "b", "d/c"} {
		if err := tr.put(name, twin); err != nil {
			t.Fatal(err)
		}
	}
	tr.clamp(testClock)
	if err := tr.text("b", 0o600, testClock, "new"); err != nil {
		t.Fatal(err)
	}
	tr.remove("d/c")
	if tr.get("a") != twin || twin.mtime != testClock.Unix() || twin.mode != typeFile|0o644 || tr.get("b") == twin {
		t.Errorf("a is %+v, b is %+v", tr.get("a"), tr.get("b"))
	}
}

func TestScratch(t *testing.T) {
	const size = 8 << 30
	name := filepath.Join(t.TempDir(), "scratch")
	start := time.Now()
	if err := Scratch(name, size); err != nil {
		t.Fatal(err)
	}
	t.Logf("made in %v", time.Since(start))
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Errorf("got %v, %v", info, err)
	}
	// Its empty inode tables are 256 MiB of zeros.
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 > 16<<20 {
		t.Errorf("it takes %d bytes of the disk, %v", st.Blocks*512, err)
	}
	fsys, err := ext4.Read(file.New(f, true), size, 0, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if fsys.Label() != "scratch" {
		t.Errorf("label is %q", fsys.Label())
	}
	if fsck, err := exec.LookPath("e2fsck"); err == nil {
		if out, err := exec.Command(fsck, "-fn", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if err := Scratch(name, size); err == nil {
		t.Error("an existing file was overwritten")
	}
}
