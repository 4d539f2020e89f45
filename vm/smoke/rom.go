package smoke

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/belljar/belljar/fault"
)

const (
	romUnit  = 64 << 10 // QEMU's -bios takes whole multiples of it (hw/i386/x86.c, x86_bios_rom_init)
	sector   = 4 << 10  // its flash chips likewise (hw/i386/pc_sysfw.c)
	romLimit = 16 << 20 // below it the PC's interrupt controllers have their registers (local APIC: 0xfee00000)
)

// takeROM copies the ROM into the run's folder while it hashes it: the bytes that are judged are those that boot,
// whatever becomes of the file in the meantime. The string says why the ROM cannot be booted at all; flash is for one that
// is not given as -bios.
func takeROM(from, to string, flash bool) (rom ROM, unfit string, err error) {
	rom.Path = from
	src, err := os.Open(from)
	if err != nil {
		return rom, "", fault.New(fault.Host, "open ROM", "%w", err)
	}
	defer src.Close()
	data, err := io.ReadAll(io.LimitReader(src, romLimit+1))
	if err != nil {
		return rom, "", fault.New(fault.Host, "read ROM", "%w", err)
	}
	if len(data) > romLimit {
		return tooLarge(rom, src, data)
	}
	sum := sha256.Sum256(data)
	rom.Size, rom.SHA256 = int64(len(data)), hex.EncodeToString(sum[:])
	if unfit = inspect(data, filepath.Base(from), flash); unfit != "" {
		return rom, unfit, nil
	}
	rom.Hint = hint(data)
	if err := os.WriteFile(to, data, 0o644); err != nil {
		return rom, "", fault.New(fault.Host, "copy ROM", "%w", err)
	}
	return rom, "", nil
}

// tooLarge hashes the rest without keeping it.
func tooLarge(rom ROM, rest io.Reader, head []byte) (ROM, string, error) {
	h := sha256.New()
	h.Write(head)
	n, err := io.Copy(h, rest)
	if err != nil {
		return rom, "", fault.New(fault.Host, "read ROM", "%w", err)
	}
	rom.Size, rom.SHA256 = int64(len(head))+n, hex.EncodeToString(h.Sum(nil))
	return rom, fmt.Sprintf("the ROM %s has %d bytes; QEMU's PC has room for %d (16 MiB) below 4 GiB",
		filepath.Base(rom.Path), rom.Size, romLimit), nil
}

// inspect says why no machine could start from data; empty if one might.
func inspect(data []byte, name string, flash bool) string {
	switch {
	case len(data) == 0:
		return fmt.Sprintf("the ROM %s is empty", name)
	case filledWith(data, 0xff):
		return fmt.Sprintf("the ROM %s is all 0xff: %d bytes of erased flash, and no code", name, len(data))
	case filledWith(data, 0x00):
		return fmt.Sprintf("the ROM %s is all zeros: %d bytes, and no code", name, len(data))
	case flash && len(data)%sector == 0:
	case flash:
		return fmt.Sprintf("the ROM %s has %d bytes, which is no multiple of a flash chip's 4 KiB: it is cut short", name, len(data))
	case len(data)%romUnit != 0:
		return fmt.Sprintf("the ROM %s has %d bytes, which is no multiple of 64 KiB: it is cut short (%d bytes over "+
			"%d blocks) or was never meant to be given to QEMU as -bios",
			name, len(data), len(data)%romUnit, len(data)/romUnit)
	}
	return ""
}

// Unfit says why no machine could start from a ROM of that name, given as -bios; empty if one might.
func Unfit(data []byte, name string) string { return inspect(data, name, false) }

func filledWith(data []byte, b byte) bool { return bytes.Count(data, []byte{b}) == len(data) }

// hint looks at the reset vector: an x86 starts 16 bytes below the end of the ROM (Intel SDM vol. 3, 9.1.4), and all
// firmware in use has a jump there, at most behind a few harmless instructions. What it says is added to the
// reason of a failure; it fails nothing by itself, because a machine knows better than a look at 16 bytes.
func hint(data []byte) string {
	base := len(data) - 1<<16 // of the code segment, f000
	vector := data[len(data)-16:]
	for i, op := range vector[:8] {
		switch op {
		case 0x90, 0xfa, 0xfc: // nop, cli, cld
			continue
		case 0xe9: // jmp rel16
			return landing(data, base+(0xfff0+i+3+int(le16(vector[i+1:])))&0xffff)
		case 0xeb: // jmp rel8
			return landing(data, base+(0xfff0+i+2+int(int8(vector[i+1])))&0xffff)
		case 0xea: // jmp seg:off; QEMU shows the last 128 KiB below 1 MiB too
			return landing(data, len(data)-1<<20+int(le16(vector[i+3:]))<<4+int(le16(vector[i+1:])))
		case 0x66, 0x0f, 0x2e:
			// An operand size, a two-byte instruction (wbinvd) or a prefix: a jump may follow, no guess.
			return ""
		}
		break
	}
	return fmt.Sprintf("the reset vector (last 16 bytes: % x) does not begin with a jump", vector)
}

// landing says what is odd about the place that the reset vector jumps to.
func landing(data []byte, to int) string {
	switch {
	case to < 0 || to+4 > len(data):
		return "the reset vector jumps out of the ROM"
	case filledWith(data[to:to+4], 0xff), filledWith(data[to:to+4], 0x00):
		return fmt.Sprintf("the reset vector jumps to offset 0x%x, where there is no code (% x)", to, data[to:to+4])
	}
	return ""
}

func le16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }
