package cbfs

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/belljar/belljar/fault"
)

// maxDictionary bounds the memory that compressed data may ask for. cbfstool's LZMA asks for 64 KiB to 8 MiB.
const maxDictionary = 64 << 20

// maxUnpacked bounds what is decompressed: the greatest flash of the field holds as much packed.
const maxUnpacked = 256 << 20

// Raw is a file's data as it is stored: what coreboot measures.
func (f *File) Raw() *io.SectionReader { return io.NewSectionReader(f.rom, f.Data, f.Size) }

// Open reads through a file's decompression. A legacy stage comes without its header.
func (f *File) Open() (io.Reader, error) {
	raw := io.Reader(f.Raw())
	if f.Type == TypeLegacyStage {
		if f.Size < legacyHeader {
			return nil, bad(f.Data, "%s has %d bytes, want a stage's header of %d", f.Name, f.Size, legacyHeader)
		}
		raw = io.NewSectionReader(f.rom, f.Data+legacyHeader, f.Size-legacyHeader)
	}
	return unpack(raw, f.Compression, f.Data, f.Name, maxUnpacked)
}

// unpack reads at most limit bytes through a decompression; at and name say where, in errors.
func unpack(r io.Reader, c Compression, at int64, name string, limit int64) (io.Reader, error) {
	var err error
	switch c {
	case None:
	case LZMA:
		r, err = lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(r)
	case LZ4:
		r = lz4.NewReader(r)
	case Zstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDictionary)); err == nil {
			r = z
		}
	default:
		return nil, bad(at, "%s has compression %s, want none, lzma, lz4 or zstd", name, c)
	}
	if err != nil {
		return nil, bad(at, "%s is no %s: %w", name, c, err)
	}
	return io.LimitReader(named{r, c, at, name}, limit), nil
}

// named says in errors what was read.
type named struct {
	io.Reader
	c    Compression
	at   int64
	name string
}

func (n named) Read(p []byte) (int, error) {
	got, err := n.Reader.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the very value that ends a stream
		err = bad(n.at, "%s, compressed by %s: %w", n.name, n.c, err)
	}
	return got, err
}

func bad(at int64, format string, args ...any) error {
	return fault.New(fault.Input, "read CBFS", "at 0x%x: "+format, append([]any{at}, args...)...)
}

// legacyHeader is the size of struct cbfs_stage of coreboot until 4.14: compression 4, entry 8, load address 8, length 4,
// length in memory 4; little-endian, as the machine that built it.
const legacyHeader = 28

func (a *Archive) legacyStage(f *File) error {
	if f.Size < legacyHeader {
		a.problem(f.Data-a.Offset, "%s has %d bytes, want a stage's header of %d", f.Name, f.Size, legacyHeader)
		return nil
	}
	var h [legacyHeader]byte
	if n, err := f.rom.ReadAt(h[:], f.Data); n < len(h) {
		return short(err)
	}
	if f.Compression = Compression(binary.LittleEndian.Uint32(h[:])); f.Compression != None {
		f.Unpacked = int64(binary.LittleEndian.Uint32(h[24:]))
	}
	return nil
}

// Segment is a part of a payload, struct cbfs_payload_segment.
type Segment struct {
	Kind        string // CODE, DATA, BSS, ENTR, PARA
	Compression Compression
	Offset      int64 // in the payload's data
	Load        uint64
	Size        int64 // as it is stored
	Memory      int64 // its size in memory

	file *File
}

// maxSegments is more than any payload has: cbfstool makes one of each of an ELF's.
const maxSegments = 64

// Segments are the parts of a payload of type TypePayload, up to its entry.
func (f *File) Segments() ([]Segment, error) {
	const size = 28
	be := binary.BigEndian
	var all []Segment
	for i := range int64(maxSegments) {
		var row [size]byte
		if n, err := f.Raw().ReadAt(row[:], i*size); n < len(row) {
			if err != io.EOF { //nolint:errorlint // an io.SectionReader's own
				return nil, err
			}
			return nil, bad(f.Data+i*size, "%s ends within its segments, want one of kind ENTR", f.Name)
		}
		s := Segment{
			Kind: string(bytes.TrimRight(row[:4], " ")), Compression: Compression(be.Uint32(row[4:])), Offset: int64(be.Uint32(row[8:])),
			Load: be.Uint64(row[12:]), Size: int64(be.Uint32(row[20:])), Memory: int64(be.Uint32(row[24:])), file: f,
		}
		switch s.Kind {
		case "ENTR":
			return append(all, s), nil
		case "BSS":
			s.Size = 0 // no bytes of the file
		case "CODE", "DATA", "PARA":
			if s.Offset+s.Size > f.Size {
				return nil, bad(f.Data+i*size, "a segment of %s ends at 0x%x, want within its 0x%x bytes", f.Name, s.Offset+s.Size, f.Size)
			}
		default:
			return nil, bad(f.Data+i*size, "a segment of %s of kind %q, want CODE, DATA, BSS, PARA or ENTR", f.Name, row[:4])
		}
		all = append(all, s)
	}
	return nil, bad(f.Data, "%s has more than %d segments", f.Name, maxSegments)
}

// Open reads through a segment's decompression.
func (s Segment) Open() (io.Reader, error) {
	raw := io.NewSectionReader(s.file.rom, s.file.Data+s.Offset, s.Size)
	return unpack(raw, s.Compression, s.file.Data+s.Offset, "a segment of "+s.file.Name, min(s.Memory, maxUnpacked))
}
