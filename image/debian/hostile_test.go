package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The packages of this file are made by somebody who means harm, or came over a line that cuts.

var (
	testFormat   = arFile{"debian-binary", []byte("2.0\n")}
	anotherEntry = file("./usr/other", "other")
)

// withData is a package whose data.tar has these entries.
func withData(tb testing.TB, entries ...entry) []byte {
	return arBytes(testFormat, arFile{"control.tar", tarBytes(tb, file("./control", testControl))},
		arFile{"data.tar", tarBytes(tb, entries...)})
}

// withControl is a package whose control.tar has these entries.
func withControl(tb testing.TB, entries ...entry) []byte {
	return arBytes(testFormat, arFile{"control.tar", tarBytes(tb, entries...)},
		arFile{"data.tar", tarBytes(tb, anotherEntry)})
}

// wantReadable checks that an error is what a user can act on: whose fault, which file, and how to mend it.
func wantReadable(t *testing.T, err error, says ...string) {
	t.Helper()
	wantFault(t, err, append(says, "read package hello.deb", "Get the package again; its SHA-256 must be")...)
	if len(err.Error()) > 500 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

// A package that ends at the boundary of a member, a header or in the middle of any stream is said to be cut off, and
// the whole one can be read right after: no decompressor is left in a bad state.
func TestDebCutAtEveryBoundary(t *testing.T) {
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		deb := goodDeb(t, compression)
		want, err := readDeb(bytes.NewReader(deb))
		if err != nil {
			t.Fatal(err)
		}
		cuts := map[string]int{"in the magic": 4, "after the magic": len(arMagic)}
		at := len(arMagic)
		for _, name := range []string{"debian-binary", "control.tar", "data.tar"} {
			m, err := parseArHeader(deb[at : at+arHeaderSize])
			if err != nil {
				t.Fatal(err)
			}
			cuts["before the header of "+name] = at
			cuts["in the header of "+name] = at + arHeaderSize/2
			at += arHeaderSize
			cuts["before the data of "+name] = at
			cuts["in the data of "+name] = at + int(m.Size)/2
			cuts["one byte before the end of "+name] = at + int(m.Size) - 1
			at += int(m.Size + m.Size&1)
		}
		for name, n := range cuts {
			t.Run(compression+" "+name, func(t *testing.T) {
				_, err := readDeb(bytes.NewReader(deb[:n]))
				wantReadable(t, err, "the file is cut off or damaged")
				if got, err := readDeb(bytes.NewReader(deb)); err != nil || got != want {
					t.Errorf("the whole one after it: %v\n%s", err, got)
				}
			})
		}
	}
}

// The data that a compressor's checksum does not cover twice: an xz stream without its index, a zstd frame without its
// last block, a gzip stream without its sum.
func TestDebStreamCutWithinItsMember(t *testing.T) {
	for _, compression := range []string{"gz", "xz", "zst"} {
		data := compress(t, compression, tarBytes(t, file("./a", strings.Repeat("text ", 20000))))
		for _, left := range []int{1, len(data) / 2, len(data) - 20, len(data) - 4, len(data) - 1} {
			deb := arBytes(testFormat, arFile{"control.tar", tarBytes(t, file("./control", testControl))},
				arFile{"data.tar." + compression, data[:left]})
			_, err := readDeb(bytes.NewReader(deb))
			wantReadable(t, err, "data.tar."+compression, "the file is cut off or damaged")
		}
	}
}

func TestDebHostilePaths(t *testing.T) {
	link := func(name, to string) entry { return odd(tar.TypeSymlink, name, to) }
	hard := func(name, to string) entry { return odd(tar.TypeLink, name, to) }
	folder := func(name string) entry { return odd(tar.TypeDir, name, "") }
	for _, c := range []struct {
		name    string
		entries []entry
		says    string
	}{
		{"climbs", []entry{file("../etc/passwd", "x")}, `data.tar: the path "../etc/passwd" climbs with '..'`},
		{"climbs in the middle", []entry{file("./usr/../../x", "")}, "climbs"},
		{"climbs and comes back", []entry{file("./a/../a", "")}, "climbs"},
		{"climbs at the end", []entry{folder("./a/..")}, "climbs"},
		{"absolute", []entry{file("/etc/passwd", "x")}, `the path "/etc/passwd" is absolute, want one relative to the root`},
		{"hard link to outside", []entry{hard("./a", "../../etc/shadow")}, `a is a hard link: the path "../../etc/shadow" climbs`},
		{"absolute hard link", []entry{hard("./a", "/etc/shadow")}, `a is a hard link: the path "/etc/shadow" is absolute`},
		{"hard link to a link", []entry{link("./l", "/etc/shadow"), hard("./a", "./l")}, "a is a hard link to l, want a regular file"},
		{"hard link to what comes later", []entry{hard("./a", "./usr/other"), anotherEntry}, "a is a hard link to usr/other, want a regular file that came before it"},
		{"hard link to itself", []entry{file("./a", "1"), hard("./a", "./a")}, "a comes twice"},
		{"file twice", []entry{file("./a", "1"), file("a", "2")}, "a comes twice, want each path once"},
		{"file twice, spelled otherwise", []entry{file("./d/a", "1"), file("./d//./a", "2")}, "d/a comes twice"},
		{"file, then folder", []entry{file("./a", "1"), folder("./a/")}, "a comes twice"},
		{"folder, then link", []entry{folder("./a/"), link("./a", "/etc")}, "a comes twice"},
		{"link, then folder", []entry{link("./a", "/etc"), folder("./a/")}, "a comes twice"},
		{"link twice", []entry{link("./a", "/etc"), link("./a", "/usr")}, "a comes twice"},
		{"long name", []entry{file("./"+strings.Repeat("n", 256), "")}, "has a name of 256 bytes in it, want at most 255"},
		{"long path", []entry{folder("./" + strings.Repeat("long/", 819))}, "bytes, want less than 4096"},
		{"long target of a link", []entry{link("./a", strings.Repeat("long/", 900))}, "a is a symbolic link to"},
		{"NUL in a target", []entry{{tar.Header{Name: "./a", Typeflag: tar.TypeSymlink, Linkname: "x\ny"}, ""}}, "want a path"},
		{"owner that no inode holds", []entry{{tar.Header{Name: "./a", Uid: 1 << 40}, ""}}, "a has the owner 1099511627776:0, want numbers up to 4294967294"},
		{"negative owner", []entry{{tar.Header{Name: "./a", Gid: -5}, ""}}, "a has the owner 0:-5"},
		{"device that no inode holds", []entry{{tar.Header{Name: "./a", Typeflag: tar.TypeChar, Devmajor: 5000}, ""}}, "a is the device 5000:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readDeb(bytes.NewReader(withData(t, c.entries...)))
			wantReadable(t, err, c.says)
		})
	}
}

// What dpkg takes is taken: bytes that are no UTF-8, names and paths as long as a file system has them, folders twice.
func TestDebOddButGoodPaths(t *testing.T) {
	longest := strings.Repeat(strings.Repeat("p", 254)+"/", 15) + strings.Repeat("q", 270-16)
	for name, e := range map[string][]entry{
		"not UTF-8":        {file("./caf\xe9", "x")},
		"255 bytes":        {file("./"+strings.Repeat("n", 255), "x")},
		"4079 bytes":       {file("./"+longest, "x")},
		"blanks":           {file("./a b\t\\", "x")},
		"folder twice":     {odd(tar.TypeDir, "./d/", ""), odd(tar.TypeDir, "./d", ""), file("./d/x", "x")},
		"dots in a name":   {file("./..a/b../...", "x")},
		"link to /":        {odd(tar.TypeSymlink, "./l", "/"), file("./l/x", "x")},
		"link that climbs": {odd(tar.TypeSymlink, "./l", "../../../.."), file("./l/x", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readDeb(bytes.NewReader(withData(t, e...)))
			last := strings.TrimPrefix(e[len(e)-1].Name, "./")
			if err != nil || !strings.HasSuffix(got, fmt.Sprintf("0 %s  %q\n", last, "x")) {
				t.Errorf("%v\n%.300q", err, got)
			}
		})
	}
}

func TestDebBadControl(t *testing.T) {
	good := file("./control", testControl)
	for _, c := range []struct {
		name    string
		entries []entry
		says    string
	}{
		{"climbs", []entry{good, file("../postinst", "")}, `control.tar: the path "../postinst" climbs`},
		{"absolute", []entry{good, file("/postinst", "")}, `the path "/postinst" is absolute`},
		{"link", []entry{good, odd(tar.TypeSymlink, "./postinst", "/bin/sh")}, "postinst is a symbolic link, want plain files"},
		{"hard link", []entry{good, odd(tar.TypeLink, "./postinst", "./control")}, "postinst is a hard link, want plain files"},
		{"device", []entry{good, odd(tar.TypeBlock, "./postinst", "")}, "postinst is a block device, want plain files"},
		{"in a folder", []entry{good, file("./x/postinst", "")}, "x/postinst is a regular file, want plain files without folders"},
		{"twice", []entry{good, good}, "control comes twice"},
		{"pax", []entry{good, {tar.Header{Name: "./md5sums", Format: tar.FormatPAX, PAXRecords: map[string]string{"X.y": "z"}}, ""}}, "md5sums"},
		{"long name", []entry{good, file("./"+strings.Repeat("x", 300), "")}, "name of 300 bytes"},
		{"nothing in it", nil, "control.tar: it has no member control"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readDeb(bytes.NewReader(withControl(t, c.entries...)))
			wantReadable(t, err, c.says)
		})
	}
}

// hugeEntry is a tar archive with one header that declares more than follows.
func hugeEntry(tb testing.TB, name string, size int64) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Format: tar.FormatGNU}); err != nil {
		tb.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, 4096)...)
}

// xzWithDictionary is an xz stream whose block header asks for the dictionary of that code (xz file format, 5.3.1).
func xzWithDictionary(tb testing.TB, data []byte, code byte) []byte {
	tb.Helper()
	z := compress(tb, "xz", data)
	const header = 12 // the stream's; then size, flags, filter 0x21, one byte of properties, the dictionary's code
	size := (int(z[header]) + 1) * 4
	if z[header+2] != 0x21 || z[header+3] != 1 {
		tb.Fatalf("block header is % x", z[header:header+size])
	}
	z[header+4] = code
	binary.LittleEndian.PutUint32(z[header+size-4:], crc32.ChecksumIEEE(z[header:header+size-4]))
	return z
}

// zstdFrame is a frame header with one raw, empty last block (RFC 8878, 3.1.1).
func zstdFrame(descriptor ...byte) []byte {
	return append(append([]byte{0x28, 0xb5, 0x2f, 0xfd}, descriptor...), 1, 0, 0)
}

// A few bytes that ask for gigabytes: an error, and no memory.
func TestDebHugeSizes(t *testing.T) {
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	data := func(name string, b []byte) []byte { return arBytes(testFormat, control, arFile{name, b}) }
	arSize := func(deb []byte, member string, size string) []byte {
		at := bytes.Index(deb, []byte(fmt.Sprintf("%-16s", member)))
		return append(append(bytes.Clone(deb[:at+48]), fmt.Sprintf("%-10s", size)...), deb[at+58:]...)
	}
	small := tarBytes(t, anotherEntry)
	for _, c := range []struct {
		name string
		deb  []byte
		says string
	}{
		{"tar header, 8 EiB", data("data.tar", hugeEntry(t, "./a", 1<<63-1)), "a declares 9223372036854775807 bytes, more than the bound of 17179869184"},
		{"tar header, 17 GiB", data("data.tar", hugeEntry(t, "./a", 17<<30)), "a declares 18253611008 bytes"},
		{"tar header, 15 GiB", data("data.tar", hugeEntry(t, "./a", 15<<30)), "the file is cut off or damaged"},
		{"tar header of control", arBytes(testFormat, arFile{"control.tar", hugeEntry(t, "./control", 1<<40)}, arFile{"data.tar", small}), "control: unexpected EOF"},
		{"ar header of data", arSize(data("data.tar", small), "data.tar", "9999999999"), "data.tar declares 9999999999 bytes, more than the bound of 4294967296"},
		{"ar header of data, in bounds", arSize(data("data.tar", small), "data.tar", "4000000000"), "the file is cut off or damaged"},
		{"ar header of control", arSize(data("data.tar", small), "control.tar", "999999999"), "control.tar declares 999999999 bytes, more than the bound"},
		{"ar header of the format", arSize(data("data.tar", small), "debian-binary", "9999999999"), "debian-binary declares 9999999999 bytes"},
		{"negative ar header", arSize(data("data.tar", small), "data.tar", "-1"), `size "-1        ", want decimal digits`},
		{"xz dictionary, 4 GiB", data("data.tar.xz", xzWithDictionary(t, small, 40)), "more memory than the bound of 64 MiB (xz)"},
		{"xz dictionary, 96 MiB", data("data.tar.xz", xzWithDictionary(t, small, 29)), "more memory than the bound of 64 MiB (xz)"},
		{"xz dictionary out of range", data("data.tar.xz", xzWithDictionary(t, small, 63)), "data.tar.xz"},
		{"xz dictionary of control", arBytes(testFormat, arFile{"control.tar.xz", xzWithDictionary(t, small, 40)}, arFile{"data.tar", small}), "control.tar.xz"},
		{"xz index of 2^62 records", data("data.tar.xz", append(compress(t, "xz", small)[:12], 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f)), "data.tar.xz"},
		{"zstd window, 2 GiB", data("data.tar.zst", zstdFrame(0, 21<<3)), "more memory than the bound of 64 MiB (xz) or 128 MiB (zstd)"},
		{"zstd window, 3.75 TiB", data("data.tar.zst", zstdFrame(0, 31<<3|7)), "more memory than the bound"},
		{"zstd content of 1 TiB in one segment", data("data.tar.zst", zstdFrame(0xe0, 0, 0, 0, 0, 0, 1, 0, 0)), "more memory than the bound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			spent := allocated(func() { _, err = readDeb(bytes.NewReader(c.deb)) })
			wantReadable(t, err, c.says)
			if spent > 8<<20 {
				t.Errorf("it took %d MiB of memory", spent>>20)
			}
		})
	}
}

// allocated is how many bytes f asked for, whether or not they were freed since.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The greatest dictionaries that are taken cost what they say, once: 64 MiB for xz -9, 128 MiB for zstd --ultra -22.
func TestDebGreatestDictionaries(t *testing.T) {
	small := tarBytes(t, anotherEntry)
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	for name, c := range map[string]struct {
		deb []byte
		max uint64
	}{
		"xz":   {arBytes(testFormat, control, arFile{"data.tar.xz", xzWithDictionary(t, small, 28)}), maxXZDictionary + 8<<20},
		"zstd": {arBytes(testFormat, control, arFile{"data.tar.zst", windowed(t, small, maxZstdWindow)}), maxZstdWindow + 8<<20},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			var err error
			spent := allocated(func() { got, err = readDeb(bytes.NewReader(c.deb)) })
			if err != nil || got != "0 usr/other  \"other\"\n" {
				t.Errorf("%q, %v", got, err)
			}
			if t.Logf("%d MiB", spent>>20); spent > c.max {
				t.Errorf("it took %d MiB of memory, want at most %d", spent>>20, c.max>>20)
			}
		})
	}
}

func windowed(tb testing.TB, data []byte, window int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithSingleSegment(false), zstd.WithEncoderConcurrency(1))
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Flush() // no length in the header: the window counts
	}
	if err = errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// zeros is an endless file.
type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bomb is a tar archive with one file of zeros, compressed.
func bomb(tb testing.TB, compression, name string, size int64) []byte {
	tb.Helper()
	var b bytes.Buffer
	var z io.WriteCloser
	var err error
	switch compression {
	case "gz":
		z, err = gzip.NewWriterLevel(&b, gzip.BestSpeed)
	case "zst":
		z, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		tb.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Format: tar.FormatGNU})
	if err == nil {
		_, err = io.CopyN(w, endlessZeros{}, size)
	}
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// A decompression bomb ends at its bound, long before the host's disk or memory does.
func TestDebBomb(t *testing.T) {
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	small := arFile{"data.tar", tarBytes(t, anotherEntry)}
	for _, c := range []struct {
		name string
		deb  []byte
		says string
	}{
		{"data, zstd", arBytes(testFormat, control, arFile{"data.tar.zst", bomb(t, "zst", "./a", 300<<20)}), "data.tar.zst: a: it unpacks to more than its bound"},
		{"data, gzip", arBytes(testFormat, control, arFile{"data.tar.gz", bomb(t, "gz", "./a", 600<<20)}), "data.tar.gz: a: it unpacks to more than its bound"},
		{"control, zstd", arBytes(testFormat, arFile{"control.tar.zst", bomb(t, "zst", "./control", 70<<20)}, small), "control.tar.zst: control: it unpacks to more than its bound"},
		{"after the end", arBytes(testFormat, control, arFile{"data.tar.zst", compress(t, "zst", append(small.data, make([]byte, 64<<20)...))}), "more than 1048576 bytes follow the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := OpenDebNamed("hello.deb", bytes.NewReader(c.deb))
			n := int64(0)
			for err == nil {
				if _, err = d.Next(); err == nil {
					var m int64
					m, err = io.Copy(io.Discard, d)
					n += m
				}
			}
			wantReadable(t, err, c.says)
			if bound := unpackedBound(int64(len(c.deb))) + 1<<20; n > bound {
				t.Errorf("%d bytes came before the end, want at most %d", n, bound)
			}
		})
	}
}

// What real packages reach stays far from the bound: 100 times their packed size.
func TestUnpackedBound(t *testing.T) {
	for packed, want := range map[int64]int64{0: 256 << 20, 1 << 20: 506 << 20, 1 << 30: maxUnpacked, maxDataSize: maxUnpacked} {
		if got := unpackedBound(packed); got != want {
			t.Errorf("%d packed: %d, want %d", packed, got, want)
		}
	}
}

// A reader that fails in the midst of hostile data is still the host's: the fault is not blamed on the package.
func TestDebUnknownCompressions(t *testing.T) {
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	for _, suffix := range []string{".lz4", ".lzma", ".br", ".Z", ".7z", ".XZ", ".xz.gz", "x"} {
		_, err := readDeb(bytes.NewReader(arBytes(testFormat, control, arFile{"data.tar" + suffix, nil})))
		wantReadable(t, err, "data.tar"+suffix, "unknown compression, want data.tar, .gz, .xz, .zst, .bz2")
	}
	for _, m := range []arFile{{"data.tar.gz", []byte("BZh91AY&SY")}, {"data.tar.xz", []byte("\x1f\x8b\x08")}, {"data.tar.zst", []byte("PK\x03\x04")}} {
		_, err := readDeb(bytes.NewReader(arBytes(testFormat, control, m)))
		wantReadable(t, err, m.name)
	}
}

func TestConffilesBad(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"relative":        {"etc/x\n", `line 1: it reads "etc/x", want an absolute clean path`},
		"climbs":          {"/etc/x\n/etc/../../x\n", "line 2"},
		"not clean":       {"/etc//x\n", "line 1"},
		"the root":        {"/\n", "line 1"},
		"word before it":  {"remove /etc/x\n", "line 1"},
		"long name":       {"/etc/" + strings.Repeat("n", 300) + "\n", "line 1"},
		"NUL":             {"/etc/\x00\n", "line 1"},
		"more than bound": {strings.Repeat("/etc/x\n", 10001), "line 10001: it lists more than 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConffiles("hello", []byte(c.text))
			wantFault(t, err, "read conffiles of hello", c.says)
		})
	}
	if all, err := ParseConffiles("hello", []byte("/etc/caf\xe9\n\n/etc/b c\n")); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

// memoryAt is a file in memory.
type memoryAt struct{ b []byte }

func (m *memoryAt) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// What is kept of a package for speed can be read again, or is not kept: zeros pack so well that the copy would be
// taken for a bomb.
func TestRepackKeepsOnlyWhatIsReadAgain(t *testing.T) {
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	for name, c := range map[string]struct {
		size int64
		kept bool
	}{"common": {20 << 20, true}, "all but a bomb": {300 << 20, false}} {
		t.Run(name, func(t *testing.T) {
			deb := arBytes(testFormat, control, arFile{"data.tar.gz", bomb(t, "gz", "./a", c.size)})
			d, err := OpenDebNamed("hello.deb", bytes.NewReader(deb))
			if err != nil {
				t.Fatal(err)
			}
			again := &memoryAt{}
			repack := d.Repack(again)
			for err == nil {
				if _, err = d.Next(); err == nil {
					_, err = io.Copy(io.Discard, d)
				}
			}
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if err := repack.Finish(); (err == nil) != c.kept {
				t.Errorf("kept: %v", err)
			}
			if d, err = OpenDebNamed("again.deb", bytes.NewReader(again.b)); err != nil || !c.kept {
				return
			}
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, d); err != nil || n != c.size {
				t.Errorf("%d bytes of %d come again: %v", n, c.size, err)
			}
		})
	}
}
