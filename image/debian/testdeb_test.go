package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/belljar/belljar/fault"
)

// arFile is a member of an ar archive that a test builds.
type arFile struct {
	name string
	data []byte
}

func arBytes(files ...arFile) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, f := range files {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d%s", f.name, 0, 0, 0, "100644", len(f.data), arTrailer)
		b.Write(f.data)
		if len(f.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// entry is a tar entry; a regular file where Typeflag is 0.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, body} }

func odd(typeflag byte, name, link string) entry {
	return entry{tar.Header{Name: name, Typeflag: typeflag, Linkname: link, Mode: 0o755}, ""}
}

func tarBytes(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.body))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Format == 0 {
			h.Format = tar.FormatGNU
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func compress(tb testing.TB, compression string, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "":
		return data
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	default:
		tb.Fatalf("no compressor for %q", compression)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

const testControl = "Package: hello\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: A <a@b>\nDescription: test\n"

// testDeb builds a small package whose two archives are compressed alike.
func testDeb(tb testing.TB, compression string, control, data []entry) []byte {
	tb.Helper()
	suffix := strings.TrimSuffix("."+compression, ".")
	return arBytes(
		arFile{"debian-binary", []byte("2.0\n")},
		arFile{"control.tar" + suffix, compress(tb, compression, tarBytes(tb, control...))},
		arFile{"data.tar" + suffix, compress(tb, compression, tarBytes(tb, data...))})
}

func goodDeb(tb testing.TB, compression string) []byte {
	return testDeb(tb, compression,
		[]entry{odd(tar.TypeDir, "./", ""), file("./control", testControl), file("./conffiles", "/etc/hello.conf\n"),
			{tar.Header{Name: "./postinst", Mode: 0o755}, "#!/bin/sh\n"}},
		[]entry{odd(tar.TypeDir, "./", ""), odd(tar.TypeDir, "./usr/", ""), file("./usr/hello", "hello, world\n"),
			odd(tar.TypeLink, "./usr/again", "./usr/hello"), odd(tar.TypeSymlink, "./usr/soft", "../etc/x"),
			file("./etc/hello.conf", "x\n"), file("./"+strings.Repeat("long/", 40)+"name", "long")})
}

// wantFault checks that err is of kind Input and says each of the given things.
func wantFault(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if k := fault.KindOf(err); k != fault.Input {
		t.Errorf("kind %v, want %v: %v", k, fault.Input, err)
	}
	text := err.Error()
	for _, f := range fault.Chain(err) {
		text += "\n" + f.Remedy
		for _, e := range f.Evidence {
			text += "\n" + e.Text
		}
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("error does not say %q: %s", s, text)
		}
	}
}
