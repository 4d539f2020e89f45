// Package romtest makes small ROMs for tests, as cbfstool and fmaptool make large ones.
//
// It shares no code with the packages that read them, so that one cannot be wrong as the other is.
package romtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Area is a line of a flash map.
type Area struct {
	Name         string
	Offset, Size int
}

// FMAP is a flash map of a ROM of that size, filled up with 0xff to 512 bytes.
func FMAP(size int, areas ...Area) []byte {
	name := func(s string) []byte { return append([]byte(s), make([]byte, 32-len(s))...) }
	b := append([]byte("__FMAP__"), 1, 1)
	b = binary.LittleEndian.AppendUint64(b, 1<<32-uint64(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = append(b, name("FLASH")...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(areas)))
	for _, a := range areas {
		b = binary.LittleEndian.AppendUint32(b, uint32(a.Offset))
		b = binary.LittleEndian.AppendUint32(b, uint32(a.Size))
		b = append(b, name(a.Name)...)
		b = append(b, 0, 0)
	}
	return pad(b, 512)
}

// File is a file of a CBFS.
type File struct {
	Name       string
	Type       uint32 // 0x50, raw, if left out
	Data       []byte
	Attributes []byte
}

// Types of files and the tags of their attributes, from coreboot's cbfs_serialized.h.
const (
	Bootblock = 0x01
	Stage     = 0x11
	Payload   = 0x20
	Null      = 0xffffffff
)

// Attribute is one attribute of a file.
func Attribute(tag uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(8+len(body)))
	return append(b, body...)
}

// Compression is the attribute that says how a file is compressed (1: LZMA, 2: LZ4, 3: zstd), and its size before.
func Compression(algorithm uint32, unpacked int) []byte {
	return Attribute(0x42435a4c, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, algorithm), uint32(unpacked)))
}

// Hash is the attribute with the digest of a file, by the number that vboot gives the algorithm (2: SHA-256).
func Hash(algorithm uint32, digest []byte) []byte {
	return Attribute(0x68736148, append(binary.BigEndian.AppendUint32(nil, algorithm), digest...))
}

// entry is a file as it lies in a CBFS: header, name, attributes, data.
func (f File) entry() []byte {
	name := pad(append([]byte(f.Name), 0), (len(f.Name)/16+1)*16)
	for i := len(f.Name); i < len(name); i++ {
		name[i] = 0
	}
	attributes := uint32(0)
	if len(f.Attributes) > 0 {
		attributes = uint32(24 + len(name))
	}
	kind := f.Type
	if kind == 0 {
		kind = 0x50
	}
	b := []byte("LARCHIVE")
	for _, field := range []uint32{uint32(len(f.Data)), kind, attributes, uint32(24 + len(name) + len(f.Attributes))} {
		b = binary.BigEndian.AppendUint32(b, field)
	}
	return bytes.Join([][]byte{b, name, f.Attributes, f.Data}, nil)
}

// CBFS is a CBFS of that size. A last file of type Bootblock lies at its very end, as on x86; what is left is filled by a
// file of type Null. It panics where there is no room.
func CBFS(size int, files ...File) []byte {
	var b, last []byte
	for i, f := range files {
		if i == len(files)-1 && f.Type == Bootblock {
			last = f.entry()
			break
		}
		b = append(b, f.entry()...)
		b = pad(b, (len(b)+63)/64*64)
	}
	room := size - len(b) - len(last)
	if room < 0 || len(last) > 0 && (size-len(last))%64 != 0 {
		panic(fmt.Sprintf("romtest: %d bytes of files and %d of bootblock in a CBFS of %d", len(b), len(last), size))
	}
	if room >= 64 {
		empty := File{Type: Null, Data: bytes.Repeat([]byte{0xff}, room-40)}
		b = append(b, empty.entry()...)
	}
	return append(pad(b, size-len(last)), last...)
}

// CBFSOffset is where the CBFS lies in what Coreboot makes: behind the map's 512 bytes.
const CBFSOffset = 0x200

// Coreboot is a ROM of that size: a flash map, and a CBFS with the files and a bootblock. The bootblock ends as x86's do: the
// version, the vendor and the part, and the reset vector.
func Coreboot(size int, b Block, files ...File) []byte {
	boot := File{Name: "bootblock", Type: Bootblock, Data: b.bytes(size)}
	rom := FMAP(size, Area{"BIOS", 0, size}, Area{"FMAP", 0, CBFSOffset}, Area{"COREBOOT", CBFSOffset, size - CBFSOffset})
	return append(rom, CBFS(size-CBFSOffset, append(files, boot)...)...)
}

// Block is what a bootblock holds.
type Block struct {
	Text                  string // strings of its code, NULs between them
	Version, Vendor, Part string
}

// bytes is a bootblock, with src/arch/x86/id.S before the last 16 bytes, and a length with which its header is aligned.
func (b Block) bytes(romSize int) []byte {
	id := []byte(b.Version + "\x00" + b.Vendor + "\x00" + b.Part + "\x00")
	end := len(id) + 16 + 16 // the four numbers, and the reset vector
	vendor := end - len(b.Version) - 1
	for _, n := range []int{end, vendor, vendor - len(b.Vendor) - 1, romSize} {
		id = binary.LittleEndian.AppendUint32(id, uint32(n))
	}
	id = append(id, pad([]byte{0xe9, 0, 0xf0, 0xff, 0xff}, 16)...)
	code := append([]byte(b.Text), 0)
	// Header and name are 40 bytes: the whole must be a multiple of 64.
	return append(pad(code, (len(code)+len(id)+40+63)/64*64-40-len(id)), id...)
}

// Segment is a part of a payload: CODE or DATA.
type Segment struct {
	Kind        string
	Compression uint32
	Load        uint64
	Data        []byte
	Memory      int
}

// Segments is the data of a payload (struct cbfs_payload_segment), ended by the address of its entry.
func Segments(entry uint64, parts ...Segment) []byte {
	be := binary.BigEndian
	var table, data []byte
	row := func(kind string, s Segment, offset int) {
		table = append(table, pad([]byte(kind), 4)...)
		table = be.AppendUint32(table, s.Compression)
		table = be.AppendUint32(table, uint32(offset))
		table = be.AppendUint64(table, s.Load)
		table = be.AppendUint32(table, uint32(len(s.Data)))
		table = be.AppendUint32(table, uint32(s.Memory))
	}
	for _, s := range parts {
		row(s.Kind, s, 28*(len(parts)+1)+len(data))
		data = append(data, s.Data...)
	}
	row("ENTR", Segment{Load: entry}, 0)
	return append(table, data...)
}

func pad(b []byte, size int) []byte {
	if len(b) >= size {
		return b
	}
	return append(b, bytes.Repeat([]byte{0xff}, size-len(b))...)
}

// GUIDs of firmware volumes' file systems, as bytes: of code (FFS2) and of variables.
var (
	FFS2   = []byte("\x78\xe5\x8c\x8c\x3d\x8a\x1c\x4f\x99\x35\x89\x61\x85\xc3\x2d\xd3")
	NVData = []byte("\x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50")
)

// Volume is a UEFI firmware volume of that size.
func Volume(guid []byte, size int) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 16), guid...)
	b = le.AppendUint64(b, uint64(size))
	b = append(b, "_FVH\xff\xfe\x04\x00"...)
	b = le.AppendUint16(b, 72)
	b = append(b, 0, 0, 0, 0, 0, 2) // checksum, no extended header, revision
	b = le.AppendUint32(b, uint32(size/4096))
	b = le.AppendUint32(b, 4096)
	b = append(b, make([]byte, 8)...) // the block map's end
	sum := uint16(0)
	for i := 0; i < len(b); i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[50:], -sum)
	return pad(b, size)
}

// OVMFEnd are the last 48 bytes of edk2's firmware for virtual machines: the GUID of its table, and the reset vector.
func OVMFEnd() []byte {
	return append([]byte("\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d"), pad(append(make([]byte, 16), 0x90, 0x90, 0xe9, 0x5b, 0xff), 32)...)
}
