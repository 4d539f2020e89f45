// Package fmap knows the flash map, FMAP: the table of a ROM's areas that coreboot's tools write and its stages read.
//
// The format stands in coreboot, src/commonlib/bsd/include/commonlib/bsd/fmap_serialized.h (version 1.1), and in
// util/cbfstool/flashmap. All numbers are little-endian. It refuses to know what the areas hold.
package fmap

import (
	"bytes"
	"encoding/binary"
	"io"
	"regexp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/scan"
)

// Map is a flash map.
type Map struct {
	Offset int64  `json:"offset"` // of the map itself, in the file
	Name   string `json:"name"`
	Base   uint64 `json:"base"` // the address at which the ROM is mapped
	Size   int64  `json:"size"` // of the ROM that it describes, in bytes
	Areas  []Area `json:"areas"`
}

// Area is a part of the ROM. Areas lie in each other: SI_ALL in FLASH, COREBOOT in BIOS.
type Area struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // in the ROM
	Size   int64  `json:"size"`   // in bytes
	Flags  uint16 `json:"flags,omitempty"`
}

// SelfArea is the name of the area in which the map itself lies.
const SelfArea = "FMAP"

// Area is the area of that name, nil if there is none.
func (m *Map) Area(name string) *Area {
	for i := range m.Areas {
		if m.Areas[i].Name == name {
			return &m.Areas[i]
		}
	}
	return nil
}

const (
	signature  = "__FMAP__"
	headerSize = 56 // signature 8, version 2, base 8, size 4, name 32, number of areas 2
	areaSize   = 42 // offset 4, size 4, name 32, flags 2
	nameSize   = 32
	maxAreas   = 1024 // coreboot's boards have below 60; a table beyond this is no table
)

var signaturePattern = regexp.MustCompile(regexp.QuoteMeta(signature))

// Find finds the flash map in the first size bytes of r; nil without an error where no signature is. The signature
// also stands in the code that looks for it, so the first one that a sound map follows counts; where there is none,
// the error says what is wrong with the last.
func Find(r io.ReaderAt, size int64) (*Map, error) {
	var last error
	for hit, err := range scan.All(io.NewSectionReader(r, 0, size), signaturePattern, len(signature)) {
		if err != nil {
			return nil, err
		}
		m, err := Parse(r, hit.Offset, size)
		if err == nil {
			return m, nil
		}
		last = err
	}
	return nil, last
}

// Parse reads the map at an offset of a file of size bytes.
func Parse(r io.ReaderAt, offset, size int64) (*Map, error) {
	bad := func(at int64, format string, args ...any) error {
		return fault.New(fault.Input, "read FMAP", "at 0x%x: "+format, append([]any{at}, args...)...)
	}
	header := make([]byte, headerSize)
	if size-offset < headerSize {
		return nil, bad(offset, "%d bytes are left of the file, want a header of %d", size-offset, headerSize)
	}
	if n, err := r.ReadAt(header, offset); n < len(header) {
		return nil, err
	}
	if string(header[:8]) != signature {
		return nil, bad(offset, "%q, want the signature %q", header[:8], signature)
	}
	if header[8] != 1 {
		return nil, bad(offset+8, "version %d.%d, want 1.x", header[8], header[9])
	}
	name, ok := text(header[22:54])
	if !ok {
		return nil, bad(offset+22, "name %q, want printable characters and NULs", header[22:54])
	}
	m := &Map{
		Offset: offset, Name: name, Base: binary.LittleEndian.Uint64(header[10:]), Size: int64(binary.LittleEndian.Uint32(header[18:])),
	}
	count := int64(binary.LittleEndian.Uint16(header[54:]))
	if count > maxAreas || count*areaSize > size-offset-headerSize {
		return nil, bad(offset+54, "%d areas, want no more than %d, and within the file", count, maxAreas)
	}
	table := make([]byte, count*areaSize)
	if n, err := r.ReadAt(table, offset+headerSize); n < len(table) {
		return nil, err
	}
	for i := range count {
		at, row := offset+headerSize+i*areaSize, table[i*areaSize:][:areaSize]
		a := Area{
			Offset: int64(binary.LittleEndian.Uint32(row)), Size: int64(binary.LittleEndian.Uint32(row[4:])),
			Flags: binary.LittleEndian.Uint16(row[40:]),
		}
		if a.Name, ok = text(row[8:40]); !ok || a.Name == "" {
			return nil, bad(at+8, "area name %q, want printable characters and NULs", row[8:40])
		}
		if a.Offset+a.Size > m.Size {
			return nil, bad(at, "area %s ends at 0x%x, want within the map's 0x%x bytes", a.Name, a.Offset+a.Size, m.Size)
		}
		m.Areas = append(m.Areas, a)
	}
	return m, nil
}

// text is a name of at most 32 bytes, filled up with NULs.
func text(field []byte) (string, bool) {
	name, rest, _ := bytes.Cut(field, []byte{0})
	for _, c := range name {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return string(name), len(bytes.Trim(rest, "\x00\xff")) == 0
}
