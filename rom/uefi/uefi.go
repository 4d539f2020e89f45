// Package uefi finds the firmware volumes of UEFI firmware.
//
// The header stands in the Platform Initialization Specification 1.7, volume 3, 3.2.1 (EFI_FIRMWARE_VOLUME_HEADER); its
// numbers are little-endian. It refuses to know what files are in a volume: which file system it has tells enough.
package uefi

import (
	"encoding/binary"
	"fmt"
	"io"
	"regexp"

	"github.com/belljar/belljar/rom/scan"
)

// Volume is a firmware volume.
type Volume struct {
	Offset     int64  `json:"offset"` // in the file
	Size       int64  `json:"size"`
	FileSystem string `json:"file_system"` // its GUID, as RFC 9562 writes one
	Holds      string `json:"holds"`       // Code, Variables, or empty: unknown
}

// What volumes hold.
const (
	Code      = "code"
	Variables = "variables"
)

// fileSystems are the GUIDs by which volumes say what is in them.
var fileSystems = map[string]string{
	"7a9354d9-0468-444a-81ce-0bf617d890df": Code,      // EFI_FIRMWARE_FILE_SYSTEM_GUID
	"8c8ce578-8a3d-4f1c-9935-896185c32dd3": Code,      // EFI_FIRMWARE_FILE_SYSTEM2_GUID, PI volume 3, 3.2.2
	"5473c07a-3dcb-4dca-bd6f-1e9689e7349a": Code,      // EFI_FIRMWARE_FILE_SYSTEM3_GUID, PI volume 3, 3.2.2
	"fff12b8d-7696-4c8b-a985-2747075b4f50": Variables, // EFI_SYSTEM_NV_DATA_FV_GUID, edk2 MdeModulePkg
}

const (
	headerSize      = 56 // without its block map
	signatureOffset = 40
)

var signature = regexp.MustCompile(`_FVH`)

// Volumes are the firmware volumes in the first size bytes of r, but for those that lie within another. What has the
// signature and no sound header is none: the signature also stands in the code that looks for it.
func Volumes(r io.ReaderAt, size int64) ([]Volume, error) {
	var all []Volume
	end := int64(0)
	for hit, err := range scan.All(io.NewSectionReader(r, 0, size), signature, 4) {
		if err != nil {
			return nil, err
		}
		at := hit.Offset - signatureOffset
		if at < end {
			continue
		}
		v, err := volume(r, at, size)
		if err != nil {
			return nil, err
		}
		if v != nil {
			all, end = append(all, *v), v.Offset+v.Size
		}
	}
	return all, nil
}

// volume reads the header at an offset; nil where it is not sound: its sum of 16-bit words must be 0, and the volume must lie
// within the file.
func volume(r io.ReaderAt, at, size int64) (*Volume, error) {
	if size-at < headerSize {
		return nil, nil
	}
	h := make([]byte, headerSize)
	if n, err := r.ReadAt(h, at); n < len(h) {
		return nil, err
	}
	le := binary.LittleEndian
	length, header := le.Uint64(h[32:]), int64(le.Uint16(h[48:]))
	if length > uint64(size-at) || header < headerSize || header%2 != 0 || header > int64(length) {
		return nil, nil
	}
	whole := make([]byte, header)
	if n, err := r.ReadAt(whole, at); n < len(whole) {
		return nil, err
	}
	sum := uint16(0)
	for i := 0; i < len(whole); i += 2 {
		sum += le.Uint16(whole[i:])
	}
	if sum != 0 {
		return nil, nil
	}
	guid := GUID(h[16:32])
	return &Volume{Offset: at, Size: int64(length), FileSystem: guid, Holds: fileSystems[guid]}, nil
}

// GUID writes the 16 bytes of a GUID as edk2 keeps it: the first three fields little-endian.
func GUID(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// ovmfTable is the GUID of the table that OVMF keeps below its reset vector, from 2021 on
// (edk2, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm); it ends 32 bytes before the firmware does.
const (
	ovmfTable       = "96b582de-1fb2-45f7-baea-a366c55a082d"
	ovmfTableOffset = 48 // from the end
)

// IsOVMF says whether the firmware in the first size bytes of r is edk2's for virtual machines.
func IsOVMF(r io.ReaderAt, size int64) (bool, error) {
	if size < ovmfTableOffset {
		return false, nil
	}
	guid := make([]byte, 16)
	if n, err := r.ReadAt(guid, size-ovmfTableOffset); n < len(guid) {
		return false, err
	}
	return GUID(guid) == ovmfTable, nil
}
