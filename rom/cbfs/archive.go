package cbfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Archive is one CBFS. A ROM has one, and two more where vboot updates it.
type Archive struct {
	Offset   int64    `json:"offset"` // in the file
	Size     int64    `json:"size"`
	Files    []*File  `json:"files"`
	Problems []string `json:"problems,omitempty"` // what is damaged, in the order of the offsets
}

// File is one file of a CBFS.
type File struct {
	Name        string      `json:"name"`
	Type        Type        `json:"type"`
	Offset      int64       `json:"offset"` // of its header, in the ROM's file
	Data        int64       `json:"data"`   // of its data, in the ROM's file
	Size        int64       `json:"size"`   // of its data as it is stored
	Compression Compression `json:"compression,omitempty"`
	Unpacked    int64       `json:"unpacked,omitempty"` // its size after decompression, where it is compressed
	Hash        *Hash       `json:"hash,omitempty"`

	rom io.ReaderAt
}

const (
	magic       = "LARCHIVE"
	alignment   = 64
	headerSize  = 24  // magic 8, length 4, type 4, offset of attributes 4, offset of data 4
	maxMetadata = 256 // CBFS_METADATA_MAX_SIZE: header, name and attributes
)

// File is the file of that name, nil if there is none. Of two, coreboot takes the first.
func (a *Archive) File(name string) *File {
	for _, f := range a.Files {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Read walks through the CBFS in size bytes of r from offset on, as cbfs_walk does. What is damaged is told among its
// problems and passed over; the only errors are those of reading.
func Read(r io.ReaderAt, offset, size int64) (*Archive, error) {
	a := &Archive{Offset: offset, Size: size, Files: []*File{}}
	var metadata [maxMetadata]byte
	free := int64(0) // where the last file ended
	for at := int64(0); at+headerSize < size; at += alignment {
		m := metadata[:min(maxMetadata, size-at)]
		if n, err := r.ReadAt(m, offset+at); n < len(m) {
			return nil, short(err)
		}
		if string(m[:8]) != magic {
			continue
		}
		a.gap(free, at)
		next, f := a.file(m, at)
		free = next
		if f != nil {
			f.rom = r
			if f.Type == TypeLegacyStage {
				if err := a.legacyStage(f); err != nil {
					return nil, err
				}
			}
			a.Files = append(a.Files, f)
		}
		at = align(next) - alignment
	}
	if len(a.Files) > 0 || free > 0 {
		a.gap(free, size)
	} else {
		a.problem(0, "no file, want %q", magic)
	}
	return a, nil
}

// file reads the header at an offset of the archive: where the next file may begin, and the file, nil where it is
// damaged or empty space.
func (a *Archive) file(m []byte, at int64) (next int64, f *File) {
	be := binary.BigEndian
	length, kind := int64(be.Uint32(m[8:])), Type(be.Uint32(m[12:]))
	attributes, data := int64(be.Uint32(m[16:])), int64(be.Uint32(m[20:]))
	switch {
	case data > maxMetadata:
		a.problem(at, "a header of %d bytes, want at most %d", data, maxMetadata)
		return at + alignment, nil
	case at+data+length > a.Size:
		a.problem(at, "a file that ends 0x%x bytes behind the CBFS", at+data+length-a.Size)
		return at + alignment, nil
	}
	next = at + data + length
	if kind == TypeDeleted || kind == TypeNull {
		return max(next, at+headerSize), nil
	}
	nameEnd := data
	if attributes != 0 {
		nameEnd = attributes
	}
	if nameEnd <= headerSize || attributes > data {
		a.problem(at, "name or attributes at 0x%x, data at 0x%x, want them behind the header and in this order", nameEnd, data)
		return max(next, at+headerSize), nil
	}
	name, _, _ := bytes.Cut(m[headerSize:nameEnd], []byte{0})
	f = &File{Name: string(name), Type: kind, Offset: a.Offset + at, Data: a.Offset + at + data, Size: length}
	if attributes != 0 {
		a.attributes(f, m[attributes:data])
	}
	return next, f
}

// gap tells of bytes between files, which a sound CBFS has not: it fills its space with files of type null. Less than
// a header's length is what alignment leaves over.
func (a *Archive) gap(from, to int64) {
	if from = align(from); to-from >= alignment {
		a.problem(from, "no %s, and none in the 0x%x bytes from there on", magic, to-from)
	}
}

func (a *Archive) problem(at int64, format string, args ...any) {
	a.Problems = append(a.Problems, fmt.Sprintf("at 0x%x: %s", a.Offset+at, fmt.Sprintf(format, args...)))
}

func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

func short(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // an io.ReaderAt's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// MasterHeader finds the CBFS of a ROM without a flash map by its master header: the last four bytes of the ROM are the
// header's offset from the end (cbfs_serialized.h, struct cbfs_header). ok is false where there is none.
func MasterHeader(r io.ReaderAt, size int64) (offset, length int64, ok bool, err error) {
	const headerSize = 32
	var pointer [4]byte
	if size < headerSize+int64(len(pointer)) {
		return 0, 0, false, nil
	}
	if n, err := r.ReadAt(pointer[:], size-4); n < len(pointer) {
		return 0, 0, false, short(err)
	}
	at := size + int64(int32(binary.LittleEndian.Uint32(pointer[:])))
	if at < 0 || at+headerSize > size {
		return 0, 0, false, nil
	}
	var h [headerSize]byte
	if n, err := r.ReadAt(h[:], at); n < len(h) {
		return 0, 0, false, short(err)
	}
	if string(h[:4]) != "ORBC" || string(h[4:7]) != "111" {
		return 0, 0, false, nil
	}
	be := binary.BigEndian
	romSize, bootblock, start := int64(be.Uint32(h[8:])), int64(be.Uint32(h[12:])), int64(be.Uint32(h[20:]))
	if bootblock == int64(len(pointer)) { // since 4.4 the bootblock is a file of CBFS, and the pointer lies in it
		bootblock = 0
	}
	end := min(romSize-bootblock, size)
	return start, end - start, start < end, nil
}
