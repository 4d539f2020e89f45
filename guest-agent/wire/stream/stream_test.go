package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// part is a member and how its content is written: negative numbers are holes.
type part struct {
	Member
	runs []int64
}

// sample has one member of every kind.
var sample = []part{
	{Member{Path: "t", Type: Dir, Mode: 0o755}, nil},
	{Member{Path: "t/a", Type: File, Mode: 0o644, Size: 12}, []int64{5, 7}},
	{Member{Path: "t/b", Type: HardLink, Mode: 0o644, Link: "t/a"}, nil},
	{Member{Path: "t/l", Type: Symlink, Mode: 0o777, Link: "../t/a"}, nil},
	{Member{Path: "sparse", Type: File, Mode: 0o755, Size: 9000}, []int64{-4096, 100, -4804}},
	{Member{Path: "made", Type: File, Mode: 0o600, Size: Unknown}, []int64{3}},
}

// content is what a test writes at an offset of a member.
func content(at, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(at + int64(i)*7 + (at+int64(i))>>9)
	}
	return b
}

// write makes a stream of the parts.
func write(t testing.TB, parts []part) ([]byte, Total) {
	t.Helper()
	return writeWith(t, parts, sumXXH64)
}

func writeWith(t testing.TB, parts []part, sum checksum) ([]byte, Total) {
	t.Helper()
	var disk bytes.Buffer
	w := newWriter(&disk, sum)
	for _, p := range parts {
		if err := w.Member(p.Member); err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for _, n := range p.runs {
			var err error
			if n < 0 {
				n = -n
				err = w.Hole(n)
			} else {
				err = w.Fill(bytes.NewReader(content(at, n)), n)
			}
			if err != nil {
				t.Fatal(err)
			}
			at += n
		}
	}
	total, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if disk.Len()%sectorSize != 0 || int64(disk.Len())-total.Size >= sectorSize {
		t.Errorf("%d bytes on the disk for a stream of %d", disk.Len(), total.Size)
	}
	return disk.Bytes(), total
}

// got is a member as it was read.
type got struct {
	Member
	content []byte
}

func readAll(r io.Reader) (all []got, total Total, err error) {
	s := NewReader(r)
	for {
		m, err := s.Next()
		if errors.Is(err, io.EOF) {
			return all, s.Total(), nil
		}
		if err != nil {
			return all, s.Total(), err
		}
		b, err := io.ReadAll(s)
		if err != nil {
			return all, s.Total(), err
		}
		all = append(all, got{*m, b})
	}
}

func TestRoundTrip(t *testing.T) {
	large := int64(3*blockSize + 12345)
	edge := []part{} // small frames over the edges of blocks, at every distance from them
	for i := range int64(200) {
		edge = append(edge, part{Member{Path: fmt.Sprint("f", i), Type: File, Size: blockSize - 101 - i}, []int64{blockSize - 101 - i}})
	}
	for name, parts := range map[string][]part{
		"nothing":      nil,
		"one of each":  sample,
		"empty file":   {{Member{Path: "e", Type: File}, nil}},
		"many blocks":  {{Member{Path: "big", Type: File, Size: large}, []int64{large}}},
		"block edges":  edge[:40],
		"hole alone":   {{Member{Path: "hole", Type: File, Size: 1 << 20}, []int64{-1 << 20}}},
		"long names":   {{Member{Path: strings.Repeat("a/", 2000) + "b", Type: Symlink, Link: strings.Repeat("c", 4000)}, nil}},
		"small pieces": {{Member{Path: "p", Type: File, Size: Unknown}, bytesOfOne(5000)}},
	} {
		t.Run(name, func(t *testing.T) {
			disk, total := write(t, parts)
			readers := []io.Reader{bytes.NewReader(disk)}
			if len(disk) < 1<<20 { // more takes too long one byte at a time
				readers = append(readers, iotest.OneByteReader(bytes.NewReader(disk)))
			}
			for _, r := range readers {
				all, read, err := readAll(r)
				if err != nil || read != total || len(all) != len(parts) {
					t.Fatalf("%d members, %+v, %v; written were %d, %+v", len(all), read, err, len(parts), total)
				}
				for i, p := range parts {
					if !reflect.DeepEqual(all[i].Member, p.Member) {
						t.Errorf("member %+v became %+v", p.Member, all[i].Member)
					}
					if want := wanted(p); !bytes.Equal(all[i].content, want) {
						t.Errorf("%s: other content, %d bytes for %d", p.Path, len(all[i].content), len(want))
					}
				}
			}
		})
	}
}

func bytesOfOne(n int) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = 1
	}
	return all
}

func wanted(p part) []byte {
	var want []byte
	for _, n := range p.runs {
		if n < 0 {
			want = append(want, make([]byte, -n)...)
		} else {
			want = append(want, content(int64(len(want)), n)...)
		}
	}
	return want
}

// A 32-bit guest's stream is read by a 64-bit host.
func TestEitherChecksum(t *testing.T) {
	disk, total := writeWith(t, sample, sumXXH32)
	if all, read, err := readAll(bytes.NewReader(disk)); err != nil || len(all) != len(sample) || read != total {
		t.Errorf("%d members, %+v, %v", len(all), read, err)
	}
	disk[50] ^= 1
	if _, _, err := readAll(bytes.NewReader(disk)); err == nil {
		t.Error("a changed bit is not told")
	}
}

// The first three are of xxHash's own sanity checks and spec, the last crosses all parts of the algorithm.
func TestXXH32(t *testing.T) {
	for text, want := range map[string]uint32{
		"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff, "Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(text)); got != want {
			t.Errorf("XXH32(%q) = %08x, want %08x", text, got, want)
		}
	}
}

// frames finds where each frame begins.
func frames(t testing.TB, disk []byte) (at []int) {
	t.Helper()
	for pos := 0; ; {
		var h head
		if err := h.parse(disk[pos:]); err != nil {
			t.Fatal(err)
		}
		at = append(at, pos)
		if h.kind == kindEnd {
			return at
		}
		pos += headSize + h.payload()
	}
}

// lie changes a frame's head or payload and seals it anew: what a guest that lies would write.
func lie(t testing.TB, disk []byte, frame int, change func(head, payload []byte)) {
	t.Helper()
	at := frames(t, disk)[frame]
	var h head
	if err := h.parse(disk[at:]); err != nil {
		t.Fatal(err)
	}
	f := disk[at : at+headSize+h.payload()]
	change(f[:headSize], f[headSize:])
	seal(f)
}

func put64(at int, v uint64) func(h, p []byte) {
	return func(h, _ []byte) { binary.LittleEndian.PutUint64(h[at:], v) }
}

// Frames of sample: 0 start, 1 t, 2 end, 3 t/a, 4 5 data, 6 end, 7 t/b, 8 end, 9 t/l, 10 end, 11 sparse, 12 hole, 13 data, 14 hole,
// 15 end, 16 made, 17 data, 18 end, 19 end of the stream.
func TestReaderRefuses(t *testing.T) {
	flip := func(at int) func(t *testing.T, disk []byte) []byte {
		return func(_ *testing.T, disk []byte) []byte { disk[at] ^= 1; return disk }
	}
	cutAt := func(frame, more int) func(t *testing.T, disk []byte) []byte {
		return func(t *testing.T, disk []byte) []byte { return disk[:frames(t, disk)[frame]+more] }
	}
	lies := func(frame int, change func(h, p []byte)) func(t *testing.T, disk []byte) []byte {
		return func(t *testing.T, disk []byte) []byte { lie(t, disk, frame, change); return disk }
	}
	without := func(frame int) func(t *testing.T, disk []byte) []byte {
		return func(t *testing.T, disk []byte) []byte {
			at := append(frames(t, disk), len(disk))
			return append(disk[:at[frame]:at[frame]], disk[at[frame+1]:]...)
		}
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, disk []byte) []byte
		words  string
	}{
		"empty disk":             {func(*testing.T, []byte) []byte { return nil }, "frame 0 at byte 0: the stream is cut off after 0 of 40 bytes"},
		"disk of zeros":          {func(*testing.T, []byte) []byte { return make([]byte, 8192) }, "frame 0 at byte 0: no frame begins here: the bytes are 00000000"},
		"flipped checksum":       {flip(0), "frame 0 at byte 0: its bytes have the checksum"},
		"flipped magic":          {flip(9), "no frame begins here"},
		"flipped payload":        {flip(41), "frame 0 at byte 0: its bytes have the checksum"},
		"another version":        {lies(0, func(_, p []byte) { p[8] = 9 }), "version 9, this program reads 1"},
		"another beginning":      {lies(0, func(_, p []byte) { p[0] = 'B' }), `it begins with "Belljar`},
		"another checksum":       {lies(4, func(h, _ []byte) { h[13] = 3 }), "a checksum of kind 3"},
		"cut in a head":          {cutAt(5, 39), `frame 5 at byte`},
		"cut in content":         {cutAt(5, 42), `in "t/a" after 5 bytes of it: the stream is cut off after 2 of 7 bytes of its payload: unexpected EOF`},
		"cut between frames":     {cutAt(5, 0), `in "t/a" after 5 bytes of it: the stream is cut off after 0 of 40 bytes of its head`},
		"cut before the end":     {cutAt(19, 0), "frame 19 at byte"},
		"a frame is missing":     {without(4), `frame 4 at byte 216, in "t/a" after 0 bytes of it: it says that it is frame 5`},
		"member is missing":      {without(1), "it says that it is frame 2"},
		"length of a member":     {lies(3, func(_, p []byte) { p[8]++ }), `in "t/a" after 12 bytes of it: the member ends 1 bytes before its length of 13`},
		"shorter than content":   {lies(3, func(_, p []byte) { p[8]-- }), `in "t/a" after 5 bytes of it: 7 bytes, 1 more than are left of the member's length of 11`},
		"content elsewhere":      {lies(5, put64(24, 6)), `it says that 6 bytes of the member came before it`},
		"end elsewhere":          {lies(18, put64(24, 2)), `it says that 2 bytes of the member came before it`},
		"hole too long":          {lies(12, put64(32, 1<<40)), `in "sparse" after 0 bytes of it: 1099511627776 bytes of content`},
		"hole of nothing":        {lies(12, put64(32, 0)), "0 bytes of content"},
		"frame too long":         {lies(12, func(h, _ []byte) { h[12] = byte(kindData) }), "frame 12"},
		"payload beyond all":     {func(t *testing.T, d []byte) []byte { put64(32, MaxPayload+1)(d[frames(t, d)[4]:], nil); return d }, "it speaks of 1048537 bytes"},
		"negative length":        {func(t *testing.T, d []byte) []byte { put64(32, 1<<63)(d[frames(t, d)[4]:], nil); return d }, "it speaks of -9223372036854775808 bytes"},
		"content of a folder":    {lies(3, func(_, p []byte) { p[0], p[8] = byte(Dir), 0 }), "content of what is no file"},
		"unknown kind":           {lies(4, func(h, _ []byte) { h[12] = 7 }), "a frame of kind kind 7 comes where [data hole member-end] is due"},
		"member within a member": {lies(4, func(h, _ []byte) { h[12] = byte(kindMember) }), "a frame of kind member comes where"},
		"path above":             {lies(7, func(_, p []byte) { copy(p[18:], "../") }), "plain and relative"},
		"no type":                {lies(7, func(_, p []byte) { p[0] = 9 }), "type 9 is none"},
		"setuid and more":        {lies(7, func(_, p []byte) { p[6] = 1 }), "mode 200644"},
		"number of members":      {lies(19, func(_, p []byte) { p[0]++ }), "frame 19 at byte"},
		"digest":                 {lies(19, func(_, p []byte) { p[16]++ }), "the end speaks of 6 members, 9015 bytes of content, digest"},
		"a lie about content":    {lies(4, func(_, p []byte) { p[0]++ }), "the end speaks of"},
	} {
		t.Run(name, func(t *testing.T) {
			disk, _ := write(t, sample)
			_, _, err := readAll(bytes.NewReader(tt.change(t, bytes.Clone(disk))))
			if at, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v (%+v) does not say %q", err, at, tt.words)
			}
		})
	}
}

// One changed bit anywhere in a stream is told, wherever it is.
func TestEveryBitCounts(t *testing.T) {
	disk, total := write(t, sample)
	for at := range total.Size {
		disk[at] ^= 1 << (at % 8)
		if _, _, err := readAll(bytes.NewReader(disk)); err == nil {
			t.Errorf("a bit of byte %d was changed, and nothing is said", at)
		}
		disk[at] ^= 1 << (at % 8)
	}
}

func TestSkippedContentIsCheckedToo(t *testing.T) {
	disk, _ := write(t, sample)
	disk[frames(t, disk)[5]+headSize] ^= 1
	s := NewReader(bytes.NewReader(disk))
	for {
		if _, err := s.Next(); err != nil {
			if !strings.Contains(err.Error(), `in "t/a" after 5 bytes`) {
				t.Error(err)
			}
			return
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	full := errors.New("disk full")
	for name, tt := range map[string]struct {
		use   func(w *Writer) error
		words string
	}{
		"content without member": {func(w *Writer) error { return w.Fill(strings.NewReader("x"), 1) }, "without a member"},
		"more than its size": {func(w *Writer) error {
			return errors.Join(w.Member(Member{Path: "a", Type: File, Size: 1}), w.Hole(2))
		}, "member of 1 bytes gets 2"},
		"less than its size": {func(w *Writer) error {
			return errors.Join(w.Member(Member{Path: "a", Type: File, Size: 2}), w.Hole(1), w.EndMember())
		}, "member of 2 bytes ends after 1"},
		"less than was promised": {func(w *Writer) error {
			return errors.Join(w.Member(Member{Path: "a", Type: File, Size: 2}), w.Fill(strings.NewReader("x"), 2))
		}, "unexpected EOF"},
		"too much": {func(w *Writer) error {
			return errors.Join(w.Member(Member{Path: "a", Type: File, Size: 1 << 40}), w.Hole(1<<40))
		}, "more than 68719476736 bytes"},
		"path": {func(w *Writer) error { return w.Member(Member{Path: "/a", Type: File}) }, "plain and relative"},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWriter(io.Discard)
			err := tt.use(w)
			if _, end := w.Close(); err == nil {
				err = end
			}
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v does not say %q", err, tt.words)
			}
		})
	}
	t.Run("disk", func(t *testing.T) {
		w := NewWriter(failing{full})
		err := w.Member(Member{Path: "a", Type: File, Size: 32 << 20})
		for range 32 {
			if err == nil {
				err = w.Fill(zeros{}, 1<<20)
			}
		}
		if !errors.Is(err, full) {
			t.Errorf("%v comes of a full disk", err)
		}
		if _, err := w.Close(); !errors.Is(err, full) {
			t.Errorf("Close: %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// FuzzReader: whatever is on the disk, the reader ends, in bounded memory, and believes only what adds up.
func FuzzReader(f *testing.F) {
	disk, total := write(f, sample)
	f.Add(disk[:total.Size])
	f.Add(disk[:frames(f, disk)[5]+3])
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewReader(bytes.NewReader(data))
		for {
			m, err := s.Next()
			if err != nil {
				if _, told := errors.AsType[*Error](err); !told && !errors.Is(err, io.EOF) {
					t.Fatalf("an error without a place: %v", err)
				}
				return
			}
			n, err := io.Copy(io.Discard, io.LimitReader(s, 1<<20))
			if err == nil && n < 1<<20 && m.Size != Unknown && n != m.Size {
				t.Fatalf("%d bytes of %+v", n, m)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	data := make([]byte, 64<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w := NewWriter(io.Discard)
		if err := errors.Join(w.Member(Member{Path: "a", Type: File, Size: int64(len(data))}), w.Fill(bytes.NewReader(data), int64(len(data)))); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// What the writer hands over suits a disk that is opened past the page cache: whole aligned blocks.
func TestDirectIO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		t.Skip("this folder's filesystem has no O_DIRECT")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := int64(5*blockSize + 4321)
	w := NewWriter(f)
	if err := errors.Join(w.Member(Member{Path: "big", Type: File, Size: n}), w.Fill(bytes.NewReader(content(0, n)), n)); err != nil {
		t.Fatal(err)
	}
	total, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if all, read, err := readAll(bytes.NewReader(disk)); err != nil || read != total || !bytes.Equal(all[0].content, content(0, n)) {
		t.Errorf("%+v, %v", read, err)
	}
}
