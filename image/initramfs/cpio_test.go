package initramfs

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type item struct {
	Header
	Data string
}

func writeAll(t testing.TB, items []item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, it := range items {
		it.Size = int64(len(it.Data))
		if err := w.WriteHeader(it.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, it.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(r io.Reader) ([]item, error) {
	var items []item
	cr := NewReader(r)
	for {
		h, err := cr.Next()
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return items, err
		}
		data, err := io.ReadAll(io.LimitReader(cr, 1<<20))
		if err != nil {
			return items, err
		}
		items = append(items, item{h, string(data)})
	}
}

var sample = []item{
	{Header{Name: "bin", Mode: TypeDir | 0o755, MTime: 1}, ""},
	{Header{Name: "bin/a", Mode: TypeFile | 0o755, UID: 3, GID: 4, MTime: 7}, "x"},
	{Header{Name: "bin/bb", Mode: TypeFile | 0o644}, "four"},
	{Header{Name: "bin/sh", Mode: TypeLink | 0o777}, "a"},
	{Header{Name: "dev/null", Mode: TypeCharDev | 0o666, Major: 1, Minor: 3}, ""},
}

func TestRoundTrip(t *testing.T) {
	raw := writeAll(t, sample)
	if len(raw)%512 != 0 {
		t.Errorf("archive has %d bytes: another one cannot follow it", len(raw))
	}
	got, err := readAll(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]item, len(sample))
	for i, it := range sample {
		it.Size = int64(len(it.Data))
		want[i] = it
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The layout is checked byte for byte once, against what the kernel's gen_init_cpio writes for the same entry.
func TestHeaderLayout(t *testing.T) {
	raw := writeAll(t, []item{{Header{Name: "a/b", Mode: TypeFile | 0o644, UID: 1, GID: 2, MTime: 0x10}, "hello"}})
	want := "070701" + "00000001" + "000081A4" + "00000001" + "00000002" + "00000001" + "00000010" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" +
		"a/b\x00" + "\x00\x00" + "hello\x00\x00\x00"
	if got := string(raw[:len(want)]); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if !strings.HasPrefix(string(raw[len(want):]), "070701"+"00000000") {
		t.Error("no trailer after the entry")
	}
}

func TestWriterRefuses(t *testing.T) {
	file := Header{Name: "a", Mode: TypeFile | 0o644, Size: 2}
	cases := []struct {
		name string
		do   func(w *Writer) error
		want string
	}{
		{"climbing name", func(w *Writer) error { return w.WriteHeader(Header{Name: "../a"}) }, "plain relative"},
		{"absolute name", func(w *Writer) error { return w.WriteHeader(Header{Name: "/a"}) }, "plain relative"},
		{"empty name", func(w *Writer) error { return w.WriteHeader(Header{}) }, "cannot be a name"},
		{"trailer as name", func(w *Writer) error { return w.WriteHeader(Header{Name: trailer}) }, "cannot be a name"},
		{"data of a folder", func(w *Writer) error {
			return w.WriteHeader(Header{Name: "d", Mode: TypeDir, Size: 1})
		}, "only files"},
		{"too large", func(w *Writer) error {
			return w.WriteHeader(Header{Name: "a", Mode: TypeFile, Size: maxData + 1})
		}, "out of range"},
		{"too much data", func(w *Writer) error {
			_ = w.WriteHeader(file)
			_, err := w.Write([]byte("abc"))
			return err
		}, "more data"},
		{"too little data, next", func(w *Writer) error {
			_ = w.WriteHeader(file)
			return w.WriteHeader(Header{Name: "b", Mode: TypeFile})
		}, "lacks 2 bytes"},
		{"too little data, close", func(w *Writer) error {
			_ = w.WriteHeader(file)
			return w.Close()
		}, "lacks 2 bytes"},
		{"write after close", func(w *Writer) error {
			_ = w.Close()
			return w.WriteHeader(file)
		}, "closed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.do(NewWriter(io.Discard))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	good := writeAll(t, sample)
	change := func(at int, with string) []byte {
		b := bytes.Clone(good)
		copy(b[at:], with)
		return b
	}
	cases := []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "unexpected EOF"},
		{"cut in a header", good[:60], "unexpected EOF"},
		{"cut in data", good[:len(good)/2], "unexpected EOF"},
		{"no trailer", good[:bytes.Index(good, []byte(trailer))-headerSize], "unexpected EOF"},
		{"old format", change(0, "070707"), "magic"},
		{"not hex", change(6, "zzzzzzzz"), "field 0"},
		{"huge file", change(54, "FFFFFFFF"), "data of"},
		{"huge name", change(94, "00FFFFFF"), "name of"},
		{"climbing", change(110, "../"), "plain relative"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := readAll(bytes.NewReader(c.raw))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// FuzzReader: whatever the bytes, the reader ends, and what it accepts can be written and read again.
func FuzzReader(f *testing.F) {
	f.Add(writeAll(f, sample))
	f.Add(writeAll(f, nil))
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		items, err := readAll(bytes.NewReader(raw))
		if err != nil {
			return
		}
		var keep []item
		for _, it := range items {
			kind := it.Mode & TypeMask
			if it.Size == int64(len(it.Data)) && (it.Size == 0 || kind == TypeFile || kind == TypeLink) {
				keep = append(keep, it)
			}
		}
		again, err := readAll(bytes.NewReader(writeAll(t, keep)))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(keep, again); d != "" {
			t.Error(d)
		}
	})
}
