package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/belljar/belljar/fault"
)

var sampleClock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// capNetRaw is the value of security.capability for cap_net_raw=ep.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// sampleTree has a file of every type, links of every kind, and a dpkg database of two packages.
func sampleTree(t testing.TB) *tree {
	t.Helper()
	tr := newTree()
	put := func(name string, n *node) *node {
		t.Helper()
		n.mtime = sampleClock.Unix()
		if err := tr.put(name, n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	file := func(name string, mode uint32, text string) *node {
		t.Helper()
		return put(name, &node{mode: typeFile | mode, size: int64(len(text)), data: inMemory([]byte(text))})
	}
	folder := func(name string, mode uint32) { t.Helper(); put(name, &node{mode: typeDir | mode}) }
	link := func(name, target string) { t.Helper(); put(name, &node{mode: typeLink | 0o777, link: target}) }

	tr.root.mtime = sampleClock.Unix()
	for _, name := range []string{
		"dev", "etc", "run", "usr", "usr/bin", "usr/lib", "usr/share", "usr/share/doc", "usr/share/doc/toy", "usr/share/doc/tool",
		"var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info",
	} {
		folder(name, 0o755)
	}
	folder("run", 0o2775) // set-gid, but no program
	folder("tmp", 0o1777)
	link("bin", "usr/bin")
	link("etc/os-release", "../usr/lib/os-release")
	link("etc/outside", "../../../../etc/passwd")
	link("etc/absolute", "/usr/bin/toy")
	link("etc/loop", "loop2")
	link("etc/loop2", "loop")
	link("etc/dangling", "/usr/bin/no-such")
	file("usr/lib/os-release", 0o644, "PRETTY_NAME=\"Toy OS 1\"\nID=toy\n# comment\nVERSION='1'\n")
	file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n_toy:x:100:42::/:/bin/false\n")
	file("etc/group", 0o644, "root:x:0:\nshadow:x:42:\n")
	toy := file("usr/bin/toy", 0o4755, "#!/bin/sh\necho toy\n")
	put("usr/bin/toy-again", toy)
	tool := file("usr/bin/tool", 0o755, strings.Repeat("tool ", 3000))
	tool.uid, tool.gid = 100, 42
	tool.xattrs = map[string]string{"security.capability": capNetRaw}
	file("usr/share/doc/toy/copyright", 0o644, "free\n")
	file("usr/share/doc/tool/empty", 0o600, "")
	put("dev/null", &node{mode: typeChar | 0o666, rdev: encodeDev(1, 3)})
	put("dev/sda", &node{mode: typeBlock | 0o660, rdev: encodeDev(8, 0)})
	put("run/pipe", &node{mode: typeFifo | 0o600})
	file("var/lib/dpkg/status", 0o644, `Package: toy
Status: install ok installed
Architecture: amd64
Version: 1.0-1

Package: tool
Status: install ok unpacked
Architecture: all
Version: 2:3.4-5
`)
	file("var/lib/dpkg/info/toy:amd64.list", 0o644, "/.\n/bin\n/bin/toy\n/bin/toy-again\n/usr\n/usr/share/doc/toy\n/usr/share/doc/toy/copyright\n")
	file("var/lib/dpkg/info/tool.list", 0o644, "/.\n/usr\n/usr/bin\n/usr/bin/tool\n/usr/share/doc/tool\n/usr/share/doc/tool/empty\n")
	file("var/lib/dpkg/info/tool.postinst", 0o755, "#!/bin/sh\n")
	return tr
}

func erofsOf(t testing.TB, tr *tree) []byte {
	t.Helper()
	f := imageFile(t)
	size, err := writeErofs(context.Background(), f, tr, sampleClock)
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, f)[:size]
}

func diskOf(t testing.TB, tr *tree) []byte {
	t.Helper()
	f := imageFile(t)
	data := erofsOf(t, tr)
	if _, err := f.WriteAt(data, partStart); err != nil {
		t.Fatal(err)
	}
	if err := finishDisk(f, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return contents(t, f)
}

func tarOf(t testing.TB, tr *tree) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	first := map[*node]string{}
	for name, n := range tr.all() {
		major, minor := decodeDev(n.rdev)
		h := &tar.Header{
			Name: "./" + name, Mode: int64(n.mode & 0o7777), Uid: int(n.uid), Gid: int(n.gid), ModTime: time.Unix(n.mtime, 0),
			Linkname: n.link, Devmajor: int64(major), Devminor: int64(minor), Format: tar.FormatPAX,
			Typeflag: map[uint32]byte{
				typeFile: tar.TypeReg, typeDir: tar.TypeDir, typeLink: tar.TypeSymlink, typeChar: tar.TypeChar,
				typeBlock: tar.TypeBlock, typeFifo: tar.TypeFifo,
			}[n.mode&typeMask],
		}
		for key, value := range n.xattrs {
			h.PAXRecords = map[string]string{"SCHILY.xattr." + key: value}
		}
		var content []byte
		switch {
		case first[n] != "":
			h.Typeflag, h.Linkname = tar.TypeLink, first[n]
		case h.Typeflag == tar.TypeReg:
			first[n] = h.Name
			content, _ = io.ReadAll(n.reader())
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func imageFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func contents(t testing.TB, f *os.File) []byte {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openBytes(t testing.TB, name string, data []byte) *Image {
	t.Helper()
	m, err := Open(context.Background(), name, bytes.NewReader(data), int64(len(data)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func packed(t testing.TB, w io.WriteCloser, err error, b *bytes.Buffer, data []byte) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gzipped and its like pack a whole image.
func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	return packed(t, gzip.NewWriter(&b), nil, &b, data)
}

func xzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	return packed(t, w, err, &b, data)
}

func zstded(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	return packed(t, w, err, &b, data)
}

// TestOpen opens the same tree in every form: each has to read the same.
func TestOpen(t *testing.T) {
	tr := sampleTree(t)
	disk, erofs, archive := diskOf(t, tr), erofsOf(t, tr), tarOf(t, tr)
	reference := openBytes(t, "disk", disk)
	for _, test := range []struct {
		name           string
		data           []byte
		format, packed string
		partitions     int
	}{
		{"disk", disk, "disk (GPT)", "", 1},
		{"erofs", erofs, "EROFS", "", 0},
		{"tar", archive, "tar", "", 0},

		{"disk.gz", gzipped(t, disk), "disk (GPT)", "gzip", 1},
		{"tar.xz", xzipped(t, archive), "tar", "xz", 0},
		{"tar.zst", zstded(t, archive), "tar", "zstd", 0},
		{"erofs.gz", gzipped(t, erofs), "EROFS", "gzip", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := openBytes(t, test.name, test.data)
			if m.Format != test.format || m.Packed != test.packed || len(m.Partitions) != test.partitions || len(m.Notes) > 0 {
				t.Errorf("format %q, packed %q, partitions %v, notes %q", m.Format, m.Packed, m.Partitions, m.Notes)
			}
			d, err := Compare(context.Background(), reference, m, DiffOptions{MTime: true})
			if err != nil {
				t.Fatal(err)
			}
			if !d.Same || len(d.Files)+len(d.Packages) > 0 || d.Contents < 8 || d.Bytes < 30000 {
				t.Errorf("not the same as the disk: %+v", d)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	r := openBytes(t, "toy.img", diskOf(t, sampleTree(t))).Inspect()
	if len(r.Partitions) != 1 || r.Partitions[0].UUID != guid("root") {
		t.Fatalf("partitions %+v", r.Partitions)
	}
	r.Partitions[0].UUID, r.Partitions[0].Size, r.Size = "", 0, 0
	want := &Report{
		Name: "toy.img", Format: "disk (GPT)",
		Partitions: []Partition{{Number: 1, Type: "Linux file system", Label: "root", Offset: partStart, FileSystem: "erofs"}},
		OS:         map[string]string{"PRETTY_NAME": "Toy OS 1", "ID": "toy", "VERSION": "1"},
		Packages: []InstalledPackage{
			{"tool", "2:3.4-5", "all", "install ok unpacked"}, {"toy", "1.0-1", "amd64", "install ok installed"},
		},
		Files: map[string]int{
			TypeFolder: 16, TypeFile: 11, TypeSymlink: 7, TypeChar: 1, TypeBlock: 1, TypeFIFO: 1, TypeHardLink: 1,
		},
		Bytes: r.Bytes,
		SetID: []File{{
			Path: "/usr/bin/toy", Type: TypeFile, Mode: "4755", Links: 2, Size: 19, MTime: sampleClock, Package: "toy",
			User: "root", Group: "root",
		}},
		Xattrs: []FileXattrs{{"/usr/bin/tool", map[string]string{"security.capability": "cap_net_raw=ep"}}},
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Error(d)
	}
}

func TestFind(t *testing.T) {
	m := openBytes(t, "toy.img", erofsOf(t, sampleTree(t)))
	for _, test := range []struct{ path, want string }{ // want: the content's beginning, or what the error says
		{"/usr/bin/toy", "#!/bin/sh"},
		{"usr//bin/./toy", "#!/bin/sh"},
		{"/bin/toy", "#!/bin/sh"},             // through a link to a folder
		{"/bin/../lib/os-release", "PRETTY"},  // .. of where the link leads to, not of the link
		{"/etc/absolute", "#!/bin/sh"},        // the image's root, not the host's
		{"/etc/outside", "root:x:0:0:root"},   // cannot climb out
		{"/../../etc/os-release", "PRETTY"},   // nor this
		{"/usr/share/doc/tool/empty", ""},     //
		{"/etc/loop", "too many symbolic"},    //
		{"/etc/passwdd", "/etc/passwd"},       // did you mean
		{"/usr/bni/toy", "/usr/bin/toy"},      // in the middle
		{"/etc/dangling", "/usr/bin/no-such"}, // where it leads
		{"/etc/passwd/x", "/etc/passwd is a file"},
		{"/zzzzzzzzzz", "image ls toy.img /"},
		{"/etc", "is a folder"},
		{"/dev/null", "is a device"},
		{"/run/pipe", "no content"},
	} {
		t.Run(test.path, func(t *testing.T) {
			f, r, err := m.OpenFile(test.path)
			if err != nil {
				e := fault.Chain(err)
				text := err.Error() + " " + e[len(e)-1].Remedy
				if fault.KindOf(err) != fault.Input || !strings.Contains(text, test.want) {
					t.Errorf("got %q, want %q in it", text, test.want)
				}
				return
			}
			data, err := io.ReadAll(r)
			if err != nil || !strings.HasPrefix(string(data), test.want) || int64(len(data)) != f.Size ||
				test.want == "" && len(data) > 0 {
				t.Errorf("got %.40q, %v; want %q", data, err, test.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	m := openBytes(t, "toy.img", erofsOf(t, sampleTree(t)))
	paths := func(name string, recursive bool) []string {
		files, err := m.List(name, recursive)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range files {
			all = append(all, f.Path)
		}
		return all
	}
	for _, test := range []struct {
		path      string
		recursive bool
		want      []string
	}{
		{"/usr/bin", false, []string{"/usr/bin/tool", "/usr/bin/toy", "/usr/bin/toy-again"}},
		{"/bin", false, []string{"/bin"}}, // the link itself, as ls does
		{"/bin/", false, []string{"/usr/bin/tool", "/usr/bin/toy", "/usr/bin/toy-again"}},
		{"/usr/bin/toy", false, []string{"/usr/bin/toy"}},
		{"/usr/share", true, []string{
			"/usr/share/doc", "/usr/share/doc/tool", "/usr/share/doc/tool/empty", "/usr/share/doc/toy", "/usr/share/doc/toy/copyright",
		}},
		{"/tmp", true, nil},
	} {
		if d := cmp.Diff(test.want, paths(test.path, test.recursive)); d != "" {
			t.Errorf("%s: %s", test.path, d)
		}
	}
	if n := len(paths("", false)); n != 7 {
		t.Errorf("the root has %d entries", n)
	}
}

// TestOpenRefuses opens what is damaged or no image.
func TestOpenRefuses(t *testing.T) {
	tr := sampleTree(t)
	disk, erofs, archive := diskOf(t, tr), erofsOf(t, tr), tarOf(t, tr)
	change := func(data []byte, at ...int) []byte {
		data = bytes.Clone(data)
		for _, i := range at {
			data[(i+len(data))%len(data)] ^= 0xff
		}
		return data
	}
	second := len(disk) - 512
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "empty"},
		{"text", []byte("name: seabios\n"), "it is no image"},
		{"zeros", make([]byte, 1<<20), "it is no image"},
		{"qcow2", append([]byte("QFI\xfb"), make([]byte, 4096)...), "qemu-img convert"},
		{"squashfs", append([]byte("hsqs"), make([]byte, 4096)...), "squashfs"},
		{"both tables", change(disk, 512+60, second+60), "both partition tables are damaged: the header does not match"},
		{"entries of both", change(disk, 1024+40, second-16*1024+40), "do not match their checksum"},
		{"no GPT", change(disk, 512, second), "MBR says that there is a GPT"},
		{"cut off", disk[:1<<20], "disk of 2048"},
		{"superblock", change(disk, partStart+1024+5), "its file system is damaged"},
		{"erofs cut off", erofs[:2000], "its file system is damaged"},
		{"tar cut off in a member", archive[:bytes.Index(archive, []byte("tool tool"))+9000], "tar: ./usr/bin/tool: unexpected EOF"},
		{"tar without its end", archive[:len(archive)-1024], "cut off: there is no end mark"},
		{"climbs", retar(t, tar.Header{Name: "../x", Typeflag: tar.TypeReg}), `"../x" climbs out`},
		{"hard link to nothing", retar(t, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}), "hard link to y"},
		{"hard link to a folder", retar(t, tar.Header{Name: "d/", Typeflag: tar.TypeDir},
			tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "d"}), "no file before it"},
		{"gzip cut off", gzipped(t, archive)[:300], "gzip, after"},
		{"packed twice", gzipped(t, gzipped(t, archive)), "it is no image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := Open(context.Background(), "x.img", bytes.NewReader(test.data), int64(len(test.data)), t.TempDir())
			if err == nil {
				t.Fatalf("opened: %+v", m)
			}
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "x.img") {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
	t.Run("first table", func(t *testing.T) {
		m := openBytes(t, "x.img", change(disk, 512+60))
		if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "the copy at the end") || m.tree == nil {
			t.Errorf("notes %q", m.Notes)
		}
	})
	t.Run("no root", func(t *testing.T) {
		m := openBytes(t, "x.img", change(disk, partStart+1024))
		r := m.Inspect()
		if len(r.Partitions) != 1 || r.Partitions[0].FileSystem != "" || len(r.Notes) != 1 {
			t.Errorf("report %+v", r)
		}
		for name, err := range map[string]error{
			"list": errorOf(m.List("/", false)), "compare": errorOf(Compare(context.Background(), m, m, DiffOptions{})),
		} {
			if fault.KindOf(err) != fault.Input {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func errorOf[T any](_ T, err error) error { return err }

func retar(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

func TestMBR(t *testing.T) {
	erofs := erofsOf(t, sampleTree(t))
	disk := make([]byte, 1<<20+len(erofs)/512*512+512)
	copy(disk[1<<20:], erofs)
	entry := func(i int, kind byte, start, size uint32) {
		e := disk[446+16*i:]
		e[4] = kind
		binary.LittleEndian.PutUint32(e[8:], start)
		binary.LittleEndian.PutUint32(e[12:], size)
	}
	entry(0, 0x0c, 64, 100)
	entry(2, 0x83, 2048, uint32(len(erofs)/512))
	disk[510], disk[511] = 0x55, 0xaa
	m := openBytes(t, "mbr.img", disk)
	want := []Partition{
		{Number: 1, Type: "FAT32", Offset: 64 * 512, Size: 100 * 512},
		{Number: 3, Type: "Linux file system", Offset: 1 << 20, Size: int64(len(erofs) / 512 * 512), FileSystem: "erofs"},
	}
	if d := cmp.Diff(want, m.Partitions); d != "" || m.Format != "disk (MBR)" || m.tree == nil {
		t.Errorf("%s: %s", m.Format, d)
	}
	entry(2, 0x83, 2048, 1<<31) // beyond the end: these bytes are no table
	if _, parts := readMBR(bytes.NewReader(disk), int64(len(disk))); parts != nil {
		t.Errorf("read %v", parts)
	}
}

// TestSparseTar reads an archive whose file has holes: its bytes do not lie there in one piece.
func TestSparseTar(t *testing.T) {
	data, err := os.ReadFile("testdata/sparse.tar")
	if err != nil {
		t.Fatal(err)
	}
	_, r, err := openBytes(t, "sparse.tar", data).OpenFile("/sparse")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if want := append(make([]byte, 1<<20), "end\n"...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestCapabilityText(t *testing.T) {
	v2 := func(magic, permitted, inheritable uint64) string {
		b := binary.LittleEndian.AppendUint32(nil, uint32(magic))
		for _, half := range []int{0, 32} {
			b = binary.LittleEndian.AppendUint32(b, uint32(permitted>>half))
			b = binary.LittleEndian.AppendUint32(b, uint32(inheritable>>half))
		}
		return string(b)
	}
	for _, test := range []struct{ value, want string }{
		{capNetRaw, "cap_net_raw=ep"},
		{v2(0x02000000, 1<<13, 0), "cap_net_raw=p"},
		{v2(0x02000001, 1<<13|1<<12, 1<<12), "cap_net_raw=ep cap_net_admin=eip"},
		{v2(0x02000001, 1<<39, 0), "cap_bpf=ep"},
		{v2(0x02000000, 1<<60, 0), "60=p"},
		{v2(0x03000001, 1, 0) + "\xe8\x03\x00\x00", "cap_chown=ep [rootid=1000]"},
		{v2(0x07000001, 1, 0), "0x0700000101000000000000000000000000000000"[:2]},
		{"short", "short"},
	} {
		if got := xattrText("security.capability", test.value); !strings.HasPrefix(got, test.want) || len(got) > len(test.want) && test.want != "0x" {
			t.Errorf("%x: got %q, want %q", test.value, got, test.want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, path string
		want          bool
	}{
		{"/etc/passwd", "/etc/passwd", true},
		{"/etc/*", "/etc/passwd", true},
		{"/etc/*", "/etc/ssh/key", false},
		{"/etc/**", "/etc/ssh/key", true},
		{"/etc/**", "/etc", true},
		{"/etc/**", "/etcetera", false},
		{"/**/*.pyc", "/usr/lib/a/b.pyc", true},
		{"/**/*.pyc", "/b.pyc", true},
		{"/usr/**/doc/*", "/usr/share/doc/x", true},
		{"/usr/**/doc/*", "/usr/share/x", false},
	} {
		if got := matches(strings.Split(test.pattern, "/"), strings.Split(test.path, "/")); got != test.want {
			t.Errorf("%s on %s: %v", test.pattern, test.path, got)
		}
	}
	if slices.Contains(fileDiffs, DiffVersion) {
		t.Error("a file has no version")
	}
}
