package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
)

// signed ends a module that was signed (include/linux/module_signature.h): the module, the signature, a struct
// module_signature whose last four bytes are the signature's length, big endian, and this.
const (
	signed        = "~Module signature appended~\n"
	signatureSize = 12 // struct module_signature
)

// lean leaves out of a module what costs the kernel the most time when it is loaded, and a guest gains nothing by: its
// signature, over all of the module, which is checked although a module without one is loaded just as well (only under
// Secure Boot is that otherwise), and the types for BPF programs, for which the kernel first reads its own. That the module
// is the package's is known: the host has held the package against its digest.
func lean(ko []byte) ([]byte, error) {
	ko, err := withoutSignature(ko)
	if err != nil {
		return nil, err
	}
	return withoutTypes(ko)
}

func withoutSignature(ko []byte) ([]byte, error) {
	rest, ok := bytes.CutSuffix(ko, []byte(signed))
	if !ok {
		return ko, nil
	}
	if len(rest) < signatureSize {
		return nil, fmt.Errorf("module: %d bytes before the end of its signature, want at least %d", len(rest), signatureSize)
	}
	size := int64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	end := int64(len(rest)) - signatureSize - size
	if end < 0 {
		return nil, fmt.Errorf("module: its signature has %d bytes, and the module all in all %d", size, len(rest))
	}
	return rest[:end], nil
}

// withoutTypes sets the size of the section .BTF to 0: the kernel takes that for a module without types
// (kernel/bpf/btf.c, btf_module_notify). Nothing else changes its place.
func withoutTypes(ko []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, fmt.Errorf("module: %w", err)
	}
	defer f.Close()
	for i, s := range f.Sections {
		if s.Name != ".BTF" {
			continue
		}
		ko = bytes.Clone(ko)
		le := f.ByteOrder
		// Elf32_Ehdr and Elf64_Ehdr, Elf32_Shdr and Elf64_Shdr in elf(5); that all of it lies in the file, NewFile has seen.
		if f.Class == elf.ELFCLASS64 {
			header := le.Uint64(ko[0x28:]) + uint64(i)*uint64(le.Uint16(ko[0x3a:]))
			le.PutUint64(ko[header+0x20:], 0)
		} else {
			header := uint64(le.Uint32(ko[0x20:])) + uint64(i)*uint64(le.Uint16(ko[0x2e:]))
			le.PutUint32(ko[header+0x14:], 0)
		}
	}
	return ko, nil
}

// leanFiles are the modules without that; each is read now.
func leanFiles(modules []File) ([]File, error) {
	all := make([]File, len(modules))
	for i, m := range modules {
		r, err := m.Open()
		if err != nil {
			return nil, fmt.Errorf("initramfs: %s: %w", m.Name, err)
		}
		ko, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			ko, err = lean(ko)
		}
		if err != nil {
			return nil, fmt.Errorf("initramfs: %s: %w", m.Name, err)
		}
		all[i] = Bytes(m.Name, m.Mode, ko)
	}
	return all, nil
}
