// Package vmtest holds what tests of virtual machines share: a conformance suite for backends, and tiny ROMs that do
// one thing, so that a test needs no kernel.
//
// It refuses to know any backend.
package vmtest

import "encoding/binary"

// Act is what a test ROM does after it has said its line.
type Act int

// The acts.
const (
	PowerOff Act = iota
	Reset
	Hang
	Panic
	Spin
	Tick // says '.' again and again, for ever
)

// I/O ports of the PC, and of QEMU's additions to it.
const (
	com1       = 0x3f8
	debugCon   = 0x402 // isa-debugcon, as SeaBIOS uses it
	pvpanic    = 0x505 // docs/specs/pvpanic in QEMU's tree: bit 0 says 'panicked'
	pciAddress = 0xcf8
	pciData    = 0xcfc
	resetPort  = 0xcf9 // ICH9 and PIIX3: bit 1 is the kind, bit 2 does it
	pmBase     = 0x600
)

// romSize is the least that QEMU takes with -bios.
const romSize = 64 << 10

// ROM is a firmware image for QEMU's PC machines that writes line to the first serial port and to the debug console,
// and then acts. It is 16-bit real-mode code, from the reset vector on; it needs no RAM.
func ROM(line string, then Act) []byte {
	a := &assembler{}
	a.say()
	a.act(then)
	a.bytes(0xf4, 0xeb, 0xfd) // halt: hlt; jmp halt
	return a.rom(line)
}

// message is where the text lies in the ROM.
const message = 0x8000

// say writes the text to the consoles.
func (a *assembler) say() {
	a.bytes(0xfa) // cli
	a.bytes(0xbe) // mov si, message
	a.word(message)
	loop := len(a.code)
	a.bytes(0x2e, 0x8a, 0x04) // mov al, cs:[si]
	a.bytes(0x84, 0xc0)       // test al, al
	a.bytes(0x74, 23)         // jz past the loop
	a.bytes(0x88, 0xc4)       // mov ah, al
	a.bytes(0xba)             // mov dx, com1's line status
	a.word(com1 + 5)
	a.bytes(0xec)       // wait: in al, dx
	a.bytes(0xa8, 0x20) // test al, 20h: it takes another byte
	a.bytes(0x74, 0xfb) // jz wait
	a.bytes(0x88, 0xe0) // mov al, ah
	a.bytes(0xba)       // mov dx, com1
	a.word(com1)
	a.bytes(0xee) // out dx, al
	a.bytes(0xba) // mov dx, debugCon
	a.word(debugCon)
	a.bytes(0xee) // out dx, al
	a.bytes(0x46) // inc si
	a.bytes(0xeb, byte(loop-len(a.code)-2))
}

// rom puts code and text into an image.
func (a *assembler) rom(line string) []byte {
	rom := make([]byte, romSize)
	copy(rom, a.code)
	copy(rom[message:romSize-17], line+"\n")
	// The CPU starts 16 bytes below the end, in a segment that begins where the ROM does: jmp to 0.
	reset := romSize - 16
	rom[reset] = 0xe9
	binary.LittleEndian.PutUint16(rom[reset+1:], uint16(0x10000-(reset+3)))
	return rom
}

// assembler collects machine code.
type assembler struct{ code []byte }

func (a *assembler) bytes(b ...byte) { a.code = append(a.code, b...) }
func (a *assembler) word(w uint16)   { a.code = binary.LittleEndian.AppendUint16(a.code, w) }
func (a *assembler) long(l uint32)   { a.code = binary.LittleEndian.AppendUint32(a.code, l) }

// out writes a byte to a port.
func (a *assembler) out(port uint16, value byte) {
	a.bytes(0xb0, value, 0xba) // mov al, value; mov dx, port
	a.word(port)
	a.bytes(0xee) // out dx, al
}

// outl writes 32 bits to a port.
func (a *assembler) outl(port uint16, value uint32) {
	a.bytes(0x66, 0xb8) // mov eax, value
	a.long(value)
	a.bytes(0xba) // mov dx, port
	a.word(port)
	a.bytes(0x66, 0xef) // out dx, eax
}

// pci writes a register in configuration space, on bus 0.
func (a *assembler) pci(device, function, register int, value uint32) {
	a.outl(pciAddress, 1<<31|uint32(device)<<11|uint32(function)<<8|uint32(register))
	a.outl(pciData, value)
}

func (a *assembler) act(then Act) {
	switch then {
	case PowerOff:
		// Both chipsets' ACPI blocks go to one address; the writes to the one that is not there are lost.
		a.pci(0x1f, 0, 0x40, pmBase|1) // ICH9 (q35): PMBASE
		a.pci(0x1f, 0, 0x44, 0x80)     // ACPI_CNTL: ACPI_EN
		a.pci(1, 3, 0x40, pmBase|1)    // PIIX4 (pc): PMBA
		a.pci(1, 3, 0x80, 1)           // PMREGMISC: PMIOSE
		a.bytes(0xb8)                  // mov ax, SLP_EN | SLP_TYP 0 (soft off)
		a.word(1 << 13)
		a.bytes(0xba) // mov dx, PM1a_CNT
		a.word(pmBase + 4)
		a.bytes(0xef) // out dx, ax
	case Reset:
		a.out(resetPort, 0x02)
		a.out(resetPort, 0x06)
	case Panic:
		a.out(pvpanic, 1)
	case Spin:
		a.bytes(0xeb, 0xfe) // jmp to itself, with interrupts off
	case Tick:
		start := len(a.code)
		a.bytes(0x66, 0xb9, 0, 0, 0x04, 0) // mov ecx, 1<<18
		a.bytes(0x67, 0xe2, 0xfd)          // wait: loop wait
		a.out(com1, '.')
		a.bytes(0xeb, byte(start-len(a.code)-2))
	case Hang:
	}
}
