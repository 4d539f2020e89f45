package cbfs_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/romtest"
)

// packed is data by each compression of CBFS.
func packed(t testing.TB, algorithm uint32, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch algorithm {
	case 1:
		w, err = lzma.WriterConfig{Size: int64(len(data)), SizeInHeader: true, DictCap: 1 << 16}.NewWriter(&b)
	case 2:
		w = lz4.NewWriter(&b)
	case 3:
		w, err = zstd.NewWriter(&b)
	default:
		return data
	}
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

var code = bytes.Repeat([]byte("ramstage of coreboot "), 500)

func TestOpen(t *testing.T) {
	for algorithm, name := range []string{"none", "lzma", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			data := packed(t, uint32(algorithm), code)
			f := read(t, romtest.CBFS(1<<14, romtest.File{
				Name: "ramstage", Type: romtest.Stage, Data: data, Attributes: romtest.Compression(uint32(algorithm), len(code)),
			})).Files[0]
			if f.Compression.String() != name || algorithm > 0 && f.Unpacked != int64(len(code)) {
				t.Errorf("compression %s, %d bytes", f.Compression, f.Unpacked)
			}
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); !bytes.Equal(got, code) || err != nil {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestLegacyStage(t *testing.T) {
	data := packed(t, 1, code)
	header := binary.LittleEndian.AppendUint32(nil, 1)
	header = append(header, make([]byte, 16)...)
	header = binary.LittleEndian.AppendUint32(header, uint32(len(data)))
	header = binary.LittleEndian.AppendUint32(header, uint32(len(code)))
	f := read(t, romtest.CBFS(1<<12, romtest.File{Name: "ramstage", Type: 0x10, Data: append(header, data...)})).Files[0]
	r, err := f.Open()
	if err != nil || f.Compression != cbfs.LZMA || f.Unpacked != int64(len(code)) {
		t.Fatalf("%+v, %v", f, err)
	}
	if got, err := io.ReadAll(r); !bytes.Equal(got, code) || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestOpenBad(t *testing.T) {
	lzmaData := packed(t, 1, code)
	flipped := bytes.Clone(lzmaData)
	flipped[20] ^= 0xff
	hungry := bytes.Clone(lzmaData)
	binary.LittleEndian.PutUint32(hungry[1:], 1<<31) // its dictionary
	for _, c := range []struct {
		name      string
		algorithm uint32
		data      []byte
		want      string
	}{
		{"no such compression", 9, code, "ramstage has compression 9, want none, lzma, lz4 or zstd"},
		{"lzma header", 1, []byte("abc"), "ramstage is no lzma: "},
		{"lzma flipped", 1, flipped, "ramstage, compressed by lzma: "},
		{"lz4 magic", 2, code, "ramstage, compressed by lz4: "},
		{"zstd magic", 3, code, "ramstage, compressed by zstd: "},
		{"lzma dictionary", 1, hungry, "2147483648 exceeds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := read(t, romtest.CBFS(1<<14, romtest.File{
				Name: "ramstage", Type: romtest.Stage, Data: c.data, Attributes: romtest.Compression(c.algorithm, len(code)),
			})).Files[0]
			r, err := f.Open()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err == nil || !strings.Contains(err.Error(), "read CBFS: at 0x") || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Input {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func payload(data []byte) *romtest.File {
	return &romtest.File{Name: "fallback/payload", Type: romtest.Payload, Data: data}
}

func TestSegments(t *testing.T) {
	data := romtest.Segments(0xe0000,
		romtest.Segment{Kind: "CODE", Compression: 1, Load: 0xe0000, Data: packed(t, 1, code), Memory: len(code)},
		romtest.Segment{Kind: "DATA", Load: 0x90000, Data: []byte("params"), Memory: 6})
	f := read(t, romtest.CBFS(1<<12, *payload(data))).Files[0]
	segments, err := f.Segments()
	if err != nil || len(segments) != 3 || segments[0].Load != 0xe0000 || segments[1].Kind != "DATA" || segments[2].Kind != "ENTR" {
		t.Fatalf("%+v, %v", segments, err)
	}
	for i, want := range [][]byte{code, []byte("params")} {
		r, err := segments[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); !bytes.Equal(got, want) || err != nil {
			t.Errorf("segment %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func TestSegmentsBad(t *testing.T) {
	sound := romtest.Segments(0xe0000, romtest.Segment{Kind: "CODE", Data: []byte("abc"), Memory: 3})
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "ends within its segments, want one of kind ENTR"},
		{"no entry", func(b []byte) []byte { return append([]byte("BSS "), b[4:28]...) }, "ends within its segments"},
		{"kind", func(b []byte) []byte { b[0] = 'X'; return b }, `of kind "XODE", want CODE, DATA, BSS, PARA or ENTR`},
		{"too long", func(b []byte) []byte { b[20] = 1; return b }, "a segment of fallback/payload ends at 0x100003b, want within its 0x3b bytes"},
		{"too many", func(b []byte) []byte { return bytes.Repeat(append([]byte("BSS "), make([]byte, 24)...), 70) }, "has more than 64 segments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := read(t, romtest.CBFS(1<<13, *payload(c.damage(bytes.Clone(sound))))).Files[0]
			if s, err := f.Segments(); err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Input {
				t.Errorf("got %+v, %v, want %s", s, err, c.want)
			}
		})
	}
}
