package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Offsets in a bzImage, from the kernel's Documentation/x86/boot.rst (protocol 2.08 and later).
const (
	offSetupSects    = 0x1f1
	offHeaderMagic   = 0x202
	offVersion       = 0x206
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	headerEnd        = 0x250
	versionPayload   = 0x208
)

// maxVmlinux bounds the kernel once it is decompressed (Debian's has 66 MB on x86_64).
const maxVmlinux = 512 << 20

// unpackVmlinux writes the ELF that a bzImage carries compressed. Under emulation the kernel's own decompressor costs
// several seconds at every boot; here it is done once. The ELF can be booted only where it has a PVH entry point, so
// that it need not come by way of the boot sector: else the result is errNoPVH, and the bzImage is what to boot.
func unpackVmlinux(bzImage *os.File, to string) error {
	payload, size, err := bzPayload(bzImage)
	if err != nil {
		return err
	}
	z, err := decompress(payload)
	if err != nil {
		return err
	}
	defer z.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.CopyN(out, z, size); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if err := hasPVH(out); err != nil {
		return err
	}
	return out.Sync()
}

var errNoPVH = errors.New("the kernel has no PVH entry point")

// bzPayload finds the compressed kernel. Its last four bytes are the size of what is in it: gzip's own trailer, or
// appended by the kernel's build (scripts/Makefile.lib, size_append).
func bzPayload(r io.ReaderAt) (io.Reader, int64, error) {
	head := make([]byte, headerEnd)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, 0, fmt.Errorf("header: %w", err)
	}
	le := binary.LittleEndian
	if string(head[offHeaderMagic:offHeaderMagic+4]) != "HdrS" || le.Uint16(head[offVersion:]) < versionPayload {
		return nil, 0, errors.New("it is no bzImage of boot protocol 2.08 or later")
	}
	setup := int64(head[offSetupSects])
	if setup == 0 {
		setup = 4 // boot.rst: for backwards compatibility
	}
	start := (setup+1)*512 + int64(le.Uint32(head[offPayloadOffset:]))
	length := int64(le.Uint32(head[offPayloadLength:]))
	if length < 8 || length > maxKernel {
		return nil, 0, fmt.Errorf("it declares a payload of %d bytes", length)
	}
	var tail [4]byte
	if _, err := r.ReadAt(tail[:], start+length-4); err != nil {
		return nil, 0, fmt.Errorf("payload: %w", err)
	}
	size := int64(le.Uint32(tail[:]))
	if size < length || size > maxVmlinux {
		return nil, 0, fmt.Errorf("it declares a kernel of %d bytes", size)
	}
	return io.NewSectionReader(r, start, length), size, nil
}

// hasPVH looks for the note by which a loader finds the 32-bit entry point (xen/include/public/elfnote.h,
// XEN_ELFNOTE_PHYS32_ENTRY; QEMU's hw/i386/pc.c takes it from the same place).
func hasPVH(r io.ReaderAt) error {
	const phys32Entry = 18
	f, err := elf.NewFile(r)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		data, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("payload: notes: %w", err)
		}
		for len(data) >= 12 {
			nameLen, descLen := int(f.ByteOrder.Uint32(data)), int(f.ByteOrder.Uint32(data[4:]))
			kind := f.ByteOrder.Uint32(data[8:])
			next := 12 + (nameLen+3)&^3 + (descLen+3)&^3
			if nameLen < 0 || descLen < 0 || next < 12 || next > len(data) {
				break
			}
			if kind == phys32Entry && bytes.Equal(data[12:12+nameLen], []byte("Xen\x00")) {
				return nil
			}
			data = data[next:]
		}
	}
	return errNoPVH
}
