package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/qcow2"
)

var exportClock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// exportImage is an image with all that a format may lose.
func exportImage(t *testing.T) *Image {
	t.Helper()
	tr := newTree()
	day := exportClock.Unix()
	put := func(name string, n *node) {
		n.mtime = day
		if err := tr.put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	file := func(mode uint32, text string) *node {
		return &node{mode: typeFile | mode, size: int64(len(text)), data: inMemory([]byte(text))}
	}
	tr.root.mtime = day
	for _, dir := range []string{
		"usr", "usr/bin", "usr/lib", "usr/lib/systemd", "usr/lib/systemd/boot", "usr/lib/systemd/boot/efi",
	} {
		put(dir, &node{mode: typeDir | 0o755})
	}
	put("tmp", &node{mode: typeDir | 0o1777})
	perl := file(0o755, "#!perl")
	put("usr/bin/perl", perl)
	put("usr/bin/perl5.36.0", perl)
	ping := file(0o755, strings.Repeat("ping", 100_000))
	ping.xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)}
	put("usr/bin/ping", ping)
	su := file(0o4755, "su")
	su.uid, su.gid = 7, 3_000_000_000
	put("usr/bin/su", su)
	put("bin", &node{mode: typeLink | 0o777, link: "usr/bin"})
	put("null", &node{mode: typeChar | 0o666, rdev: encodeDev(1, 3)})
	put("pipe", &node{mode: typeFifo | 0o600})
	put("usr/lib/"+strings.Repeat("long-", 45)+"name", file(0o644, ""))
	put("usr/lib/hole", file(0o644, strings.Repeat("\x00", 300_000)))
	for _, l := range loaders {
		put(l.file, file(0o644, "MZ "+l.efi))
	}
	m := &Image{Name: "test", tree: tr}
	m.group()
	return m
}

func exportTar(t *testing.T, m *Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.ExportTar(t.Context(), f, ExportOptions{Clock: exportClock}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExportTarIsReadByTar(t *testing.T) {
	archive := exportTar(t, exportImage(t))
	list := foreign(t, "tar", "--numeric-owner", "--utc", "--xattrs", "--xattrs-include=*", "-tvvf", archive)
	long := "./usr/lib/" + strings.Repeat("long-", 45) + "name"
	for _, want := range []string{
		"drwxr-xr-x  0/0               0 2026-01-01 00:00 ./\n",
		"drwxrwxrwt  0/0               0 2026-01-01 00:00 ./tmp/\n",
		"lrwxrwxrwx  0/0               0 2026-01-01 00:00 ./bin -> usr/bin\n",
		"crw-rw-rw-  0/0             1,3 2026-01-01 00:00 ./null\n",
		"prw-------  0/0               0 2026-01-01 00:00 ./pipe\n",
		"hrwxr-xr-x  0/0               0 2026-01-01 00:00 ./usr/bin/perl5.36.0 link to ./usr/bin/perl\n",
		"-rwxr-xr-x* 0/0          400000 2026-01-01 00:00 ./usr/bin/ping\n",
		"-rwsr-xr-x  7/3000000000      2 2026-01-01 00:00 ./usr/bin/su\n",
		"-rw-r--r--  0/0               0 2026-01-01 00:00 " + long + "\n",
		"-rw-r--r--  0/0          300000 2026-01-01 00:00 ./usr/lib/hole\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("tar does not list %q", want)
		}
	}
	if t.Failed() {
		t.Log(list)
	}
	if got := foreign(t, "tar", "-xOf", archive, "./usr/bin/ping"); got != strings.Repeat("ping", 100_000) {
		t.Errorf("ping has %d bytes", len(got))
	}
}

func TestExportTarKeepsHardLinks(t *testing.T) {
	dir := t.TempDir()
	foreign(t, "tar", "-C", dir, "-xf", exportTar(t, exportImage(t)), "./usr/bin/perl", "./usr/bin/perl5.36.0")
	a, err := os.Stat(filepath.Join(dir, "usr/bin/perl"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.Stat(filepath.Join(dir, "usr/bin/perl5.36.0")); err != nil || !os.SameFile(a, b) {
		t.Errorf("two files (%v)", err)
	}
}

// An export that is opened as an image is the image that was exported, to the last attribute.
func TestExportTarReadBack(t *testing.T) {
	m := exportImage(t)
	f, err := os.Open(exportTar(t, m))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	back, err := Open(t.Context(), "back", f, info.Size(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	d, err := Compare(t.Context(), m, back, DiffOptions{MTime: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Files) > 0 {
		t.Errorf("the archive has another root: %+v", d.Files)
	}
}

func TestExportSquashfsIsReadByUnsquashfs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.squashfs")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := exportImage(t).ExportSquashfs(t.Context(), f, ExportOptions{Clock: exportClock}); err != nil {
		t.Fatal(err)
	}
	list := foreign(t, "unsquashfs", "-lln", "-UTC", "-d", "", path)
	for _, want := range []string{
		"-rwxr-xr-x 0/0                       6 2026-01-01 00:00 /usr/bin/perl5.36.0\n",
		"-rwsr-xr-x 7/3000000000              2 2026-01-01 00:00 /usr/bin/su\n",
		"-rw-r--r-- 0/0                  300000 2026-01-01 00:00 /usr/lib/hole\n",
		"lrwxrwxrwx 0/0                       7 2026-01-01 00:00 /bin -> usr/bin\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("unsquashfs does not list %q:\n%s", want, list)
		}
	}
	inodes := foreign(t, "unsquashfs", "-s", path)
	if !strings.Contains(inodes, "Number of inodes 18\n") { // of 19 names
		t.Errorf("the hard link is a file of its own:\n%s", inodes)
	}
	got := foreign(t, "rdsquashfs", "-x", "usr/bin/ping", path)
	if !strings.Contains(got, "security.capability=0x0100000200200000") {
		t.Errorf("ping has the attributes %q", got)
	}
}

// bootDisk writes the disk of an image that boots by itself.
func bootDisk(t *testing.T, m *Image, arch string) (raw string, rootHash string) {
	t.Helper()
	d := openBootDisk(t, m, arch)
	defer d.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.WriteSparse(t.Context(), f, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	return f.Name(), d.RootHash
}

func openBootDisk(t *testing.T, m *Image, arch string) *BootDisk {
	t.Helper()
	b := testBoot(arch)
	var err error
	if b.Loader, err = m.FindLoader(arch); err != nil {
		t.Fatal(err)
	}
	b.FindRoot = func(label, rootHash string) string { return "root=" + label + " hash=" + rootHash }
	d, err := m.BootDisk(t.Context(), b, t.TempDir(), ExportOptions{Clock: exportClock})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openFile(t *testing.T, path string) (*Image, *os.File) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, _ := f.Stat()
	m, err := Open(t.Context(), filepath.Base(path), f, info.Size(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return m, f
}

func TestBootDiskIsReadByOtherTools(t *testing.T) {
	for arch, want := range map[string]struct{ root, verity, efi string }{
		"x86_64": {"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "BOOTX64.EFI"},
		"i686":   {"44479540-F297-41B2-9AF7-D131D5F0458A", "D13C5D3B-B5D1-422A-B29F-9454FDC89D76", "BOOTIA32.EFI"},
	} {
		t.Run(arch, func(t *testing.T) {
			raw, hash := bootDisk(t, exportImage(t), arch)
			if out := foreign(t, "sfdisk", "--verify", raw); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", out)
			}
			dump := foreign(t, "sfdisk", "--dump", raw)
			for _, part := range []string{
				"type=" + want.root, "type=" + want.verity, "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
				`name="root"`, `name="root-verity"`, `name="esp"`,
			} {
				if !strings.Contains(dump, part) {
					t.Errorf("sfdisk does not say %s:\n%s", part, dump)
				}
			}
			m, _ := openFile(t, raw)
			esp := raw + "@@" + strconv.FormatInt(m.Partitions[2].Offset, 10)
			if got := foreign(t, "mtype", "-i", esp, "::/EFI/BOOT/"+want.efi); got != "MZ "+want.efi {
				t.Errorf("the boot loader is %q", got)
			}
			entry := foreign(t, "mtype", "-i", esp, "::/loader/entries/belljar.conf")
			if len(hash) != 64 || !strings.Contains(entry, "options console=ttyS0 belljar.console root=root hash="+hash+"\n") {
				t.Errorf("root hash %q, and the loader's entry is:\n%s", hash, entry)
			}
		})
	}
}

// The root of a disk is copied as it is: its hash tree, and so its root hash, stay what they were.
func TestBootDiskOfADiskKeepsItsRoot(t *testing.T) {
	first, hash := bootDisk(t, exportImage(t), "x86_64")
	m, _ := openFile(t, first)
	second, again := bootDisk(t, m, "x86_64")
	a, b := readFile(t, first), readFile(t, second)
	if hash != again || !bytes.Equal(a, b) {
		t.Errorf("root hash %s became %s; %d bytes became %d", hash, again, len(a), len(b))
	}
}

func TestExportsAreTheSameEverywhere(t *testing.T) {
	formats := map[string]func(*testing.T) []byte{
		"tar": func(t *testing.T) []byte { return readFile(t, exportTar(t, exportImage(t))) },
		"raw": func(t *testing.T) []byte {
			raw, _ := bootDisk(t, exportImage(t), "x86_64")
			return readFile(t, raw)
		},
		"squashfs": func(t *testing.T) []byte {
			return written(t, func(f *os.File) error {
				_, err := exportImage(t).ExportSquashfs(t.Context(), f, ExportOptions{Clock: exportClock})
				return err
			})
		},
		"qcow2": func(t *testing.T) []byte {
			d := openBootDisk(t, exportImage(t), "x86_64")
			defer d.Close()
			return written(t, func(f *os.File) error {
				_, err := qcow2.Write(t.Context(), f, d, d.Size, qcow2.Options{})
				return err
			})
		},
	}
	for name, make := range formats {
		t.Run(name, func(t *testing.T) {
			first := make(t)
			t.Setenv("SOURCE_DATE_EPOCH", "1234567890")
			t.Setenv("TZ", "Asia/Tokyo")
			old := syscall.Umask(0o077)
			defer syscall.Umask(old)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			if second := make(t); !bytes.Equal(first, second) {
				t.Errorf("%x here, %x there", sha256.Sum256(first), sha256.Sum256(second))
			}
		})
	}
}

func TestExportedQcow2IsTheRawDisk(t *testing.T) {
	m := exportImage(t)
	raw, _ := bootDisk(t, m, "x86_64")
	d := openBootDisk(t, m, "x86_64")
	defer d.Close()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := qcow2.Write(t.Context(), f, d, d.Size, qcow2.Options{}); err != nil {
		t.Fatal(err)
	}
	foreign(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)
	var raws, sparse syscall.Stat_t
	if syscall.Stat(raw, &raws) != nil || syscall.Stat(path, &sparse) != nil {
		t.Fatal("no stat")
	}
	// 40 MiB of boot partition hold 7 MiB, and the small root lies in partitions of whole MiB.
	if room := raws.Blocks * 512; room > 12<<20 || raws.Size < 40<<20 {
		t.Errorf("of the raw disk's %d bytes %d take room", raws.Size, room)
	}
	if sparse.Size > 2<<20 {
		t.Errorf("the qcow2 has %d bytes", sparse.Size)
	}
}

func TestBootDiskReadAt(t *testing.T) {
	d := openBootDisk(t, exportImage(t), "x86_64")
	defer d.Close()
	whole := make([]byte, d.Size)
	if _, err := io.ReadFull(io.NewSectionReader(d, 0, d.Size), whole); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 511, partStart - 3, partStart, d.Size - gptTail - 5, d.Size - 7} {
		b := make([]byte, 10)
		n, err := d.ReadAt(b, at)
		want := whole[at:min(at+10, d.Size)]
		if !bytes.Equal(b[:n], want) || (n < 10) != errors.Is(err, io.EOF) {
			t.Errorf("at %d: %d bytes, %v", at, n, err)
		}
	}
	if n, err := d.ReadAt(make([]byte, 1), d.Size); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

func TestCheckRootFindsAFlippedBit(t *testing.T) {
	raw, _ := bootDisk(t, exportImage(t), "x86_64")
	m, f := openFile(t, raw)
	if err := m.CheckRoot(t.Context()); err != nil {
		t.Fatalf("a whole image: %v", err)
	}
	root := m.Partitions[0]
	at := root.Offset + root.Size - 1 // in the partition, behind the file system
	if _, err := f.WriteAt([]byte{1}, at); err != nil {
		t.Fatal(err)
	}
	err := m.CheckRoot(t.Context())
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "image damaged") {
		t.Errorf("one bit flipped: %v", err)
	}
}

func TestNoBootLoader(t *testing.T) {
	m := exportImage(t)
	m.tree.remove("usr/lib/systemd")
	_, err := m.FindLoader("x86_64")
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "systemd-bootx64.efi is missing") {
		t.Errorf("got %v", err)
	}
}

func TestExportOfAFileThatEnds(t *testing.T) {
	m := exportImage(t)
	m.tree.get("usr/bin/su").size = 100
	err := m.ExportTar(t.Context(), io.Discard, ExportOptions{})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "/usr/bin/su: it ends after 2 of 100 bytes") {
		t.Errorf("tar: %v", err)
	}
	err = os.ErrInvalid
	written(t, func(f *os.File) error {
		_, err = m.ExportSquashfs(t.Context(), f, ExportOptions{})
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "usr/bin/su: it ends before its size") {
		t.Errorf("squashfs: %v", err)
	}
}

func TestExportIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := exportImage(t).ExportTar(ctx, io.Discard, ExportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("tar: %v", err)
	}
	d := openBootDisk(t, exportImage(t), "x86_64")
	defer d.Close()
	written(t, func(f *os.File) error {
		if err := d.WriteSparse(ctx, f, ExportOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("raw: %v", err)
		}
		return nil
	})
}

func written(t *testing.T, fill func(*os.File) error) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f); err != nil {
		t.Fatal(err)
	}
	return readFile(t, f.Name())
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
