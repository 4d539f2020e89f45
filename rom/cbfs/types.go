package cbfs

import "fmt"

// Type says what a file is, enum cbfs_type.
type Type uint32

// The types that decide something here.
const (
	TypeDeleted     Type = 0
	TypeNull        Type = 0xffffffff // empty space
	TypeBootblock   Type = 0x01
	TypeLegacyStage Type = 0x10 // until 4.14: its compression stands in a header before its code
	TypeStage       Type = 0x11
	TypePayload     Type = 0x20 // in segments; "SELF"
	TypeFIT         Type = 0x21 // a payload as a flattened image tree
	TypeRaw         Type = 0x50
)

// typeNames are cbfstool's (util/cbfstool/cbfs.h, filetypes).
var typeNames = map[Type]string{
	TypeDeleted: "deleted", TypeNull: "null", TypeBootblock: "bootblock", 0x02: "cbfs header", TypeLegacyStage: "legacy stage",
	TypeStage: "stage", TypePayload: "simple elf", TypeFIT: "fit_payload", 0x30: "optionrom", 0x40: "bootsplash", TypeRaw: "raw",
	0x51: "vsa", 0x52: "mbi", 0x53: "microcode", 0x54: "intel_fit", 0x60: "fsp", 0x61: "mrc", 0x62: "mma", 0x63: "efi",
	0x70: "struct", 0x80: "amdfw", 0xaa: "cmos_default", 0xab: "spd", 0xac: "mrc_cache", 0x01aa: "cmos_layout",
}

func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("0x%x", uint32(t))
}

// MarshalText is the name.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Compression is how a file or a segment is stored, enum cbfs_compression.
type Compression uint32

// The compressions. Zstd came in 2025.
const (
	None Compression = iota
	LZMA
	LZ4
	Zstd
)

func (c Compression) String() string {
	if int64(c) < int64(len(compressionNames)) {
		return compressionNames[c]
	}
	return fmt.Sprintf("%d", uint32(c))
}

var compressionNames = [...]string{"none", "lzma", "lz4", "zstd"}

// MarshalText is the name.
func (c Compression) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
