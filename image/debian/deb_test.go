package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/belljar/belljar/fault"
)

func readDeb(r io.Reader) (string, error) {
	d, err := OpenDebNamed("hello.deb", r)
	if err != nil {
		return "", err
	}
	defer d.Close()
	var b strings.Builder
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		body, err := io.ReadAll(d)
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%c %s %s %q\n", h.Typeflag, h.Name, h.Linkname, body)
	}
}

func TestDeb(t *testing.T) {
	want := `5 .  ""
5 usr  ""
0 usr/hello  "hello, world\n"
1 usr/again usr/hello ""
2 usr/soft ../etc/x ""
0 etc/hello.conf  "x\n"
0 ` + strings.Repeat("long/", 40) + `name  "long"
`
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		t.Run("compression "+compression, func(t *testing.T) {
			deb := goodDeb(t, compression)
			got, err := readDeb(iotest.OneByteReader(bytes.NewReader(deb)))
			if err != nil || got != want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
			}
			d, err := OpenDeb(bytes.NewReader(deb))
			if err != nil {
				t.Fatal(err)
			}
			if string(d.Control()["control"]) != testControl || d.ControlMode("postinst") != 0o755 || len(d.Control()) != 3 {
				t.Errorf("control is %q", d.Control())
			}
			if err := errors.Join(d.Close(), d.Close()); err != nil {
				t.Errorf("Close is not idempotent: %v", err)
			}
			if _, err := d.Next(); err == nil {
				t.Error("Next after Close gives no error")
			}
		})
	}
}

// TestDebCut cuts a package at every length: each is an error of kind Input, none a short package.
func TestDebCut(t *testing.T) {
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		deb := goodDeb(t, compression)
		step := 1 + len(deb)/500
		for n := 0; n < len(deb)-1; n += step {
			if _, err := readDeb(bytes.NewReader(deb[:n])); err == nil || fault.KindOf(err) != fault.Input {
				t.Fatalf("%q cut at %d of %d: %v", compression, n, len(deb), err)
			}
		}
	}
}

func TestDebSourceFails(t *testing.T) {
	broken := errors.New("connection reset")
	deb := goodDeb(t, "gz")
	for _, n := range []int{0, 100, 400, len(deb) - 10} {
		_, err := readDeb(io.MultiReader(bytes.NewReader(deb[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || fault.KindOf(err) == fault.Input {
			t.Errorf("after %d bytes: %v, want the source's own error, unclassified", n, err)
		}
	}
}

func TestDebBad(t *testing.T) {
	control := arFile{"control.tar", tarBytes(t, file("./control", testControl))}
	format := arFile{"debian-binary", []byte("2.0\n")}
	data := func(entries ...entry) []byte {
		return arBytes(format, control, arFile{"data.tar", tarBytes(t, entries...)})
	}
	huge := bytes.Replace(arBytes(format, control, arFile{"data.tar", nil}), []byte("0         `\n"), []byte("9999999999`\n"), 1)
	cases := []struct {
		name string
		deb  []byte
		says string
	}{
		{"empty", nil, "empty"},
		{"not ar", []byte("PK\x03\x04 something else"), "want the ar magic"},
		{"old format", arBytes(arFile{"debian-binary", []byte("0.939000\n")}), "want the format version 2.0"},
		{"huge format", arBytes(arFile{"debian-binary", make([]byte, 100)}), "at most 64"},
		{"no format", arBytes(control), "want debian-binary"},
		{"no control", arBytes(format, arFile{"data.tar", nil}), "want control.tar"},
		{"no data", arBytes(format, control), "it ends before data.tar"},
		{"control without control", arBytes(format, arFile{"control.tar", tarBytes(t, file("./md5sums", ""))}), "no member control"},
		{"folder in control", arBytes(format, arFile{"control.tar", tarBytes(t, file("./a/b", ""))}), "want plain files"},
		{"twice in control", arBytes(format, arFile{"control.tar", tarBytes(t, file("./a", "x"), file("a", "y"))}), "a comes twice"},
		{"unknown compression", arBytes(format, control, arFile{"data.tar.lz4", nil}), "data.tar.lz4 has an unknown compression"},
		{"bzip2 control", arBytes(format, arFile{"control.tar.bz2", nil}), "unknown compression"},
		{"not xz", arBytes(format, control, arFile{"data.tar.xz", []byte("nonsense, but long enough")}), "data.tar.xz"},
		{"bad header end", append(arBytes(format), bytes.Repeat([]byte("x"), 60)...), "the archive is damaged"},
		{"bad size", []byte(arMagic + fmt.Sprintf("%-16s%-32s%-10s`\n", "debian-binary", "0", "-4")), "want decimal digits"},
		{"absolute path", data(file("/etc/passwd", "")), "/etc/passwd\" is absolute"},
		{"climb", data(file("./a/../../etc/passwd", "")), "climbs"},
		{"hard link climbs", data(odd(tar.TypeLink, "./a", "../b")), "climbs"},
		{"hard link to nothing", data(odd(tar.TypeLink, "./a", "./b")), "came before it"},
		{"hard link to a folder", data(odd(tar.TypeDir, "./b", ""), odd(tar.TypeLink, "./a", "./b")), "came before it"},
		{"empty symbolic link", data(odd(tar.TypeSymlink, "./a", "")), "symbolic link"},
		{"line end in path", data(file("./a\nb", "")), "line end"},
		{"contiguous file", data(odd('7', "./a", "")), "unknown type"},
		{"pax", data(entry{tar.Header{Name: "./a", Format: tar.FormatPAX, PAXRecords: map[string]string{"X.y": "z"}}, ""}), "pax"},
		{"root is a file", data(file(".", "")), "root"},
		{"huge data", huge, "9999999999 bytes, more than the bound"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := readDeb(bytes.NewReader(c.deb))
			wantFault(t, err, c.says, "hello.deb")
		})
	}
}

// TestDebMembersToSkip: deb(5) lets later versions put members with '_' before control and data, and anything at the end.
func TestDebMembersToSkip(t *testing.T) {
	deb := arBytes(arFile{"debian-binary", []byte("2.1\n")}, arFile{"_gpg", []byte("odd")},
		arFile{"control.tar/", tarBytes(t, file("control", testControl))}, arFile{"_x", nil},
		arFile{"data.tar", tarBytes(t, file("a", "b"))}, arFile{"later", []byte("x")})
	if got, err := readDeb(bytes.NewReader(deb)); err != nil || got != "0 a  \"b\"\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDebFlippedBit: the checksum of the compressor is read to its end.
func TestDebFlippedBit(t *testing.T) {
	for _, compression := range []string{"gz", "xz", "zst"} {
		body := strings.Repeat("some text that is long enough to compress ", 100)
		data := compress(t, compression, tarBytes(t, file("./a", body)))
		deb := arBytes(arFile{"debian-binary", []byte("2.0\n")}, arFile{"control.tar", tarBytes(t, file("control", testControl))},
			arFile{"data.tar." + compression, data})
		good := 0
		for i := len(deb) - len(data); i < len(deb)-1; i++ {
			bad := bytes.Clone(deb)
			bad[i] ^= 0x10
			if got, err := readDeb(bytes.NewReader(bad)); err == nil {
				good++
				if got != fmt.Sprintf("0 a  %q\n", body) {
					t.Fatalf("%s: bit flipped at %d gives another content and no error", compression, i)
				}
			}
		}
		if good > len(data)/4 {
			t.Errorf("%s: %d of %d flipped bits are not noticed", compression, good, len(data))
		}
	}
}

func FuzzAr(f *testing.F) {
	f.Add(arBytes(arFile{"debian-binary", []byte("2.0\n")}, arFile{"odd", []byte("x")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := newArReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		total := int64(len(arMagic))
		for {
			m, err := a.next()
			if err != nil {
				return
			}
			n, err := io.Copy(io.Discard, a)
			if err == nil && n != m.Size {
				t.Fatalf("%s: %d bytes, header says %d", m.Name, n, m.Size)
			}
			if total += arHeaderSize + n; total > int64(len(data)) {
				t.Fatal("it reads more than there is")
			}
		}
	})
}

func FuzzDeb(f *testing.F) {
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		f.Add(goodDeb(f, compression))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := OpenDeb(bytes.NewReader(data))
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("not classified: %v", err)
			}
			return
		}
		defer d.Close()
		d.tar = tar.NewReader(&bounded{r: d.data, left: 8 << 20}) // a bomb of 16 GiB is within the bounds, but slow
		for {
			h, err := d.Next()
			if err != nil {
				return
			}
			if clean, err := cleanPath(h.Name); err != nil || clean != h.Name {
				t.Fatalf("path %q is not clean", h.Name)
			}
			if _, err := io.CopyN(io.Discard, d, 1<<20); err != nil && !errors.Is(err, io.EOF) {
				return
			}
		}
	})
}
