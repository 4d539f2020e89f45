package rom

import (
	"bytes"
	"errors"
	"io"
)

// unit is what QEMU wants the size of a firmware to be a multiple of: hw/i386/x86.c, x86_bios_rom_init.
const unit = 64 << 10

// resetVector is how many bytes the first instruction of an x86 processor has: from 0xfffffff0 to the end.
const resetVector = 16

// sanity tells what keeps a ROM from booting whatever it is.
func (m *Image) sanity() error {
	if m.Kind == OptionROM || m.onlyVariables() {
		return nil
	}
	if m.Kind != UEFI && m.Size%unit != 0 { // UEFI's is attached as flash, whose size is its own affair
		m.problem("its %d bytes are no multiple of 64 KiB, and QEMU loads no other firmware", m.Size)
	}
	var last [resetVector]byte
	if n, err := m.rom.ReadAt(last[:], m.Size-resetVector); n < len(last) && !errors.Is(err, io.EOF) {
		return err
	}
	if !jumps(last[:]) {
		m.problem("its last 16 bytes are % x, want a jump: an x86 processor starts there", last)
	}
	return nil
}

// jumps says whether code jumps away, behind what firmware does before that: nothing, cli, cld, invd, wbinvd, a load of cr0 to
// find out in which mode it is (OVMF).
func jumps(code []byte) bool {
	for {
		rest := code
		for _, before := range [][]byte{{0x66, 0x90}, {0x90}, {0xfa}, {0xfc}, {0x0f, 0x08}, {0x0f, 0x09}} {
			rest = bytes.TrimPrefix(rest, before)
		}
		if len(rest) == len(code) {
			break
		}
		code = rest
	}
	return len(code) > 1 && (code[0] == 0xe9 || code[0] == 0xea || code[0] == 0xeb || code[0] == 0x0f && code[1] == 0x20)
}
