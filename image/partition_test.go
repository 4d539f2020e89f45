package image

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// gptBuilder writes a GPT of one copy by hand, so that each field can be wrong.
type gptBuilder struct {
	disk   []byte
	sector int
}

func (g gptBuilder) entry(i int, kind byte, first, last uint64, label string) {
	e := g.disk[2*g.sector+128*i:][:128]
	e[0], e[16] = kind, byte(i)+1
	binary.LittleEndian.PutUint64(e[32:], first)
	binary.LittleEndian.PutUint64(e[40:], last)
	for j, u := range utf16.Encode([]rune(label)) {
		binary.LittleEndian.PutUint16(e[56+2*j:], u)
	}
}

func (g gptBuilder) header() []byte { return g.disk[g.sector:][:92] }

func (g gptBuilder) finish() {
	h, le := g.header(), binary.LittleEndian
	copy(h, "EFI PART\x00\x00\x01\x00")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 4)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(g.disk[2*g.sector:][:4*128]))
	g.seal()
}

// seal puts the header's checksum right.
func (g gptBuilder) seal() {
	h := g.header()
	copy(h[16:20], "\x00\x00\x00\x00")
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

func TestReadPartitions(t *testing.T) {
	build := func(sector int) gptBuilder {
		g := gptBuilder{make([]byte, 40*sector), sector}
		g.entry(0, 0xaf, 34, 35, "root")
		g.entry(2, 0xc1, 36, 38, "EFI – ü")
		g.finish()
		return g
	}
	for _, sector := range []int{512, 4096} {
		g := build(sector)
		table, parts, note, err := readPartitions(bytes.NewReader(g.disk), int64(len(g.disk)))
		want := []Partition{
			{Number: 1, Type: "000000af-0000-0000-0000-000000000000", UUID: "00000001-0000-0000-0000-000000000000", Label: "root",
				Offset: int64(34 * sector), Size: int64(2 * sector)},
			{Number: 3, Type: "000000c1-0000-0000-0000-000000000000", UUID: "00000003-0000-0000-0000-000000000000", Label: "EFI – ü",
				Offset: int64(36 * sector), Size: int64(3 * sector)},
		}
		if d := cmp.Diff(want, parts); d != "" || table != "GPT" || note != "" || err != nil {
			t.Errorf("sectors of %d: %s, %q, %v: %s", sector, table, note, err, d)
		}
	}
	le := binary.LittleEndian
	for _, test := range []struct {
		name   string
		change func(g gptBuilder)
		want   string
	}{
		{"header too small", func(g gptBuilder) { le.PutUint32(g.header()[12:], 91) }, "a header of 91 bytes"},
		{"header too big", func(g gptBuilder) { le.PutUint32(g.header()[12:], 513) }, "a header of 513 bytes"},
		{"checksum", func(g gptBuilder) { g.header()[16]++ }, "header does not match its checksum"},
		{"entries far away", func(g gptBuilder) { le.PutUint64(g.header()[72:], 1<<62); g.seal() }, "entries of 128 bytes at sector"},
		{"entries beyond the end", func(g gptBuilder) { le.PutUint64(g.header()[72:], 40); g.seal() }, "unexpected EOF"},
		{"too many entries", func(g gptBuilder) { le.PutUint32(g.header()[80:], 1<<31); g.seal() }, "2147483648 entries"},
		{"huge entries", func(g gptBuilder) { le.PutUint32(g.header()[84:], 1<<31); g.seal() }, "entries of 2147483648 bytes"},
		{"no sectors", func(g gptBuilder) { le.PutUint64(g.disk[1024+32:], 36); g.finish() }, "partition 1 reaches from sector 36 to 35"},
		{"beyond the end", func(g gptBuilder) { le.PutUint64(g.disk[1024+40:], 40); g.finish() }, "to 40, on a disk of 40"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := build(512)
			test.change(g)
			_, _, _, err := readPartitions(bytes.NewReader(g.disk), int64(len(g.disk)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
