package smoke

import "encoding/binary"

// bits is the width of a UEFI's code: it starts applications of that width alone.
type bits int

const (
	bits32 bits = 32
	bits64 bits = 64
)

const (
	appAlign   = 0x1000 // of the section in memory
	appSector  = 0x200  // the least alignment in the file
	appMessage = 0x60   // offset of the text in the section
)

// application is a UEFI application that does what the boot sector does, and then asks the firmware's runtime service to
// power the machine off. It is a PE image of one section (Microsoft's PE format, 'Optional Header'; UEFI 2.10, 2.1.1), which
// runs wherever it is put, so that it needs no relocations.
func application(b bits) []byte {
	image := append(make([]byte, 0, 2*appSector), "MZ"...) // the DOS header: its magic number …
	image = append(image, make([]byte, 58)...)
	image = appendWords(image, 64) // … and where the PE header is
	code := app64()
	if b == bits32 {
		code = app32()
	}
	image = append(image, peHeaders(b)...)
	image = append(image, make([]byte, appSector-len(image))...)
	image = append(image, code...)
	return append(image, make([]byte, 2*appSector-len(image))...)
}

// peHeaders are the PE header, the optional header, which is not optional, and the header of the one section.
func peHeaders(b bits) []byte {
	le := binary.LittleEndian
	machine, magic := uint16(0x8664), uint16(0x20b) // IMAGE_FILE_MACHINE_AMD64, PE32+
	if b == bits32 {
		machine, magic = 0x14c, 0x10b // IMAGE_FILE_MACHINE_I386, PE32
	}
	h := le.AppendUint16([]byte("PE\x00\x00"), machine)
	h = le.AppendUint16(h, 1)    // sections
	h = appendWords(h, 0, 0, 0)  // date, symbols
	h = append(h, 0, 0, 0x02, 0) // size of the optional header, set below; IMAGE_FILE_EXECUTABLE_IMAGE
	optional := len(h)
	h = le.AppendUint16(h, magic)
	h = append(h, 0, 0)                       // the linker's version
	h = appendWords(h, appSector, 0, 0)       // sizes of code, data, bss
	h = appendWords(h, appAlign, appAlign)    // entry point, base of code
	h = append(h, make([]byte, 32/b*4)...)    // base of data, in PE32
	h = append(h, make([]byte, b/8)...)       // image base
	h = appendWords(h, appAlign, appSector)   // alignments in memory and in the file
	h = append(h, make([]byte, 16)...)        // versions
	h = appendWords(h, 2*appAlign, appSector) // sizes of the image, of the headers
	h = appendWords(h, 0, 10)                 // checksum; IMAGE_SUBSYSTEM_EFI_APPLICATION and flags
	h = append(h, make([]byte, 4*b/8)...)     // stack and heap
	h = appendWords(h, 0, 6)                  // flags, number of directories
	h = append(h, make([]byte, 6*8)...)       // the directories, all empty
	le.PutUint16(h[optional-4:], uint16(len(h)-optional))

	h = append(h, ".text\x00\x00\x00"...)
	h = appendWords(h, appSector, appAlign)           // size and place in memory
	h = appendWords(h, appSector, appSector, 0, 0, 0) // and in the file; relocations and lines: none
	return appendWords(h, 0x60000020)                 // code, readable, executable
}

func appendWords(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// app64 is entered by Microsoft's calling convention (UEFI 2.10, 2.3.4): rdx is the system table. In it and in the table of
// runtime services, the offsets are those of UEFI 2.10, 4.3 and 4.5.
func app64() []byte {
	const runtimeServices, resetSystem = 88, 104
	var a assembler
	a.op("sub rsp, 0x28", 0x48, 0x83, 0xec, 0x28) // the callee's 32 bytes; the stack is at a multiple of 16 again
	a.op("mov rdi, rdx", 0x48, 0x89, 0xd7)
	a.op("lea rsi, [rip+message]", 0x48, 0x8d, 0x35, appMessage-14, 0, 0, 0) // this instruction ends at 14
	a.printLine()
	a.op("mov rax, [rdi+runtimeServices]", 0x48, 0x8b, 0x47, runtimeServices)
	a.op("mov ecx, EfiResetShutdown", 0xb9, 2, 0, 0, 0)
	a.op("xor edx, edx", 0x31, 0xd2) // status
	a.op("xor r8d, r8d", 0x45, 0x31, 0xc0)
	a.op("xor r9d, r9d", 0x45, 0x31, 0xc9)
	a.op("call [rax+resetSystem]", 0xff, 0x50, resetSystem)
	return a.program()
}

// app32 is entered with its arguments on the stack: the second is the system table.
func app32() []byte {
	const runtimeServices, resetSystem = 56, 64
	var a assembler
	a.op("mov edi, [esp+8]", 0x8b, 0x7c, 0x24, 8)
	a.op("call here", 0xe8, 0, 0, 0, 0)
	a.op("here: pop esi", 0x5e) // its own address, 9
	a.op("add esi, message-here", 0x83, 0xc6, appMessage-9)
	a.printLine()
	for range 3 { // data, its size, status
		a.op("push 0", 0x6a, 0)
	}
	a.op("push EfiResetShutdown", 0x6a, 2)
	a.op("mov eax, [edi+runtimeServices]", 0x8b, 0x47, runtimeServices)
	a.op("call [eax+resetSystem]", 0xff, 0x50, resetSystem)
	return a.program()
}

// printLine writes what esi or rsi points at, up to a zero, to COM1 and to QEMU's debug console, as the boot sector does; in 32
// and in 64 bits the code is the same. Where it writes itself, it needs no console of the firmware's.
func (a *assembler) printLine() {
	a.label("next")
	a.op("lodsb", 0xac)
	a.op("test al, al", 0x84, 0xc0)
	a.short("jz done", 0x74, "done")
	a.op("mov bl, al", 0x88, 0xc3)
	a.op("mov dx, com1Status", 0x66, 0xba, lo(com1Status), hi(com1Status))
	a.label("busy")
	a.op("in al, dx", 0xec)
	a.op("test al, thre", 0xa8, thre)
	a.short("jz busy", 0x74, "busy")
	a.op("mov dx, com1Data", 0x66, 0xba, lo(com1Data), hi(com1Data))
	a.op("mov al, bl", 0x88, 0xd8)
	a.op("out dx, al", 0xee)
	a.op("mov dx, debugPort", 0x66, 0xba, lo(debugPort), hi(debugPort))
	a.op("in al, dx", 0xec)
	a.op("cmp al, debugMagic", 0x3c, debugMagic)
	a.short("jnz next", 0x75, "next")
	a.op("mov al, bl", 0x88, 0xd8)
	a.op("out dx, al", 0xee)
	a.short("jmp next", 0xeb, "next")
	a.label("done")
}

// program ends an application: firmware that does not power off comes back, and the processor sleeps. The text, which begins a
// line whatever the firmware printed before, lies behind.
func (a *assembler) program() []byte {
	a.label("halt")
	a.op("hlt", 0xf4)
	a.short("jmp halt", 0xeb, "halt")
	code := a.bytes()
	if len(code) > appMessage {
		panic("the application's code reaches into its text")
	}
	code = append(code, make([]byte, appMessage-len(code))...)
	return append(code, "\r\n"+TestDiskLine+"\r\n\x00"...)
}
