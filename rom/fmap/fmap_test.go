package fmap

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

// write is a map as coreboot's fmaptool writes it.
func write(m Map) []byte {
	b := append([]byte(signature), 1, 1)
	b = binary.LittleEndian.AppendUint64(b, m.Base)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.Size))
	b = append(b, field(m.Name)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.Areas)))
	for _, a := range m.Areas {
		b = binary.LittleEndian.AppendUint32(b, uint32(a.Offset))
		b = binary.LittleEndian.AppendUint32(b, uint32(a.Size))
		b = append(b, field(a.Name)...)
		b = binary.LittleEndian.AppendUint16(b, a.Flags)
	}
	return b
}

func field(name string) []byte { return append([]byte(name), make([]byte, nameSize-len(name))...) }

// small is the map of a ROM of 64 KiB.
var small = Map{Name: "FLASH", Base: 0xffff0000, Size: 0x10000, Areas: []Area{
	{Name: "BIOS", Size: 0x10000},
	{Name: "FMAP", Offset: 0, Size: 0x200},
	{Name: "COREBOOT", Offset: 0x200, Size: 0xfe00, Flags: 4},
}}

func TestFind(t *testing.T) {
	sound := write(small)
	at := func(offset int, parts ...[]byte) []byte {
		return append(bytes.Repeat([]byte{0xff}, offset), bytes.Join(parts, nil)...)
	}
	for _, c := range []struct {
		name   string
		data   []byte
		offset int64 // of the map; -1: there is none
	}{
		{"none", at(1000), -1},
		{"empty", nil, -1},
		{"at the start", sound, 0},
		{"at an odd place", at(0x12345, sound), 0x12345},
		{"after the string in the code that looks for it", at(70, []byte("no __FMAP__ here\x00"), sound), 87},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(bytes.NewReader(c.data), int64(len(c.data)))
			if err != nil {
				t.Fatal(err)
			}
			if c.offset < 0 {
				if got != nil {
					t.Fatalf("found %+v", got)
				}
				return
			}
			want := small
			want.Offset = c.offset
			if d := cmp.Diff(&want, got); d != "" {
				t.Error(d)
			}
			if a := got.Area("COREBOOT"); a == nil || a.Offset != 0x200 || got.Area("GBB") != nil {
				t.Errorf("COREBOOT is %+v", a)
			}
		})
	}
}

func TestFindBad(t *testing.T) {
	change := func(at int, bytes ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bytes); return b }
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"cut in the header", func(b []byte) []byte { return b[:50] }, "at 0x0: 50 bytes are left of the file, want a header of 56"},
		{"cut in the table", func(b []byte) []byte { return b[:100] }, "at 0x36: 3 areas, want no more than 1024, and within the file"},
		{"version", change(8, 2, 7), "at 0x8: version 2.7, want 1.x"},
		{"name", change(22, '\t'), `at 0x16: name "\tLASH\x00`},
		{"no name of an area", change(headerSize+8, make([]byte, nameSize)...), `at 0x40: area name "\x00\x00`},
		{"area beyond the end", change(headerSize+4, 1), "at 0x38: area BIOS ends at 0x10001, want within the map's 0x10000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := c.damage(write(small))
			m, err := Find(bytes.NewReader(data), int64(len(data)))
			if err == nil || !strings.Contains(err.Error(), "read FMAP: "+c.want) || fault.KindOf(err) != fault.Input {
				t.Errorf("got %+v, %v, want %s", m, err, c.want)
			}
		})
	}
}

// FuzzFind looks for a map in foreign bytes: what is found lies within what it says of itself, and reads the same when
// written anew.
func FuzzFind(f *testing.F) {
	f.Add(write(small))
	f.Add(write(Map{Name: "EMPTY", Size: 1 << 20}))
	f.Add([]byte(strings.Repeat(signature, 3)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Find(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("not an input fault: %v", err)
			}
			return
		}
		if m == nil {
			return
		}
		again, err := Parse(bytes.NewReader(write(*m)), 0, int64(headerSize+len(m.Areas)*areaSize))
		if err != nil {
			t.Fatal(err)
		}
		again.Offset = m.Offset
		if d := cmp.Diff(m, again); d != "" {
			t.Error(d)
		}
	})
}
