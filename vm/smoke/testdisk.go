package smoke

import (
	"encoding/binary"
	"os"
)

// TestDiskLine is what the test disk prints once it runs: proof that the ROM found a disk, read its first sector
// and started it.
const TestDiskLine = "BELLJAR TEST DISK BOOTED"

const (
	sectorSize   = 512
	testDiskSize = 1 << 20
	loadAddress  = 0x7c00 // where a PC BIOS puts the boot sector and jumps to
	signatureAt  = 440    // the disk's signature, 4 bytes
	tableAt      = 446    // the partition table, 4 entries of 16 bytes
)

// Where a PC and QEMU have what is written to.
const (
	com1Data   = 0x3f8
	com1Status = com1Data + 5 // LSR of the 16550
	thre       = 0x20         // its bit 5: the transmit holding register is empty
	debugPort  = 0x402
	debugMagic = 0xe9 // what QEMU's isa-debugcon reads as
)

// TestDisk is the image of a bootable disk of 1 MiB, always the same bytes. A BIOS starts its first sector, UEFI the application in
// its one partition.
func TestDisk() []byte {
	disk := make([]byte, testDiskSize)
	code := bootCode()
	if len(code) > signatureAt {
		panic("boot code reaches into the partition table")
	}
	copy(disk, code)
	copy(disk[signatureAt:], "BJAR")
	copy(disk[tableAt:], partition(1, testDiskSize/sectorSize-1))
	disk[510], disk[511] = 0x55, 0xaa
	copy(disk[sectorSize:], espVolume())
	return disk
}

// writeTestDisk puts the disk where a machine may write to it: IDE disks cannot be read-only in QEMU.
func writeTestDisk(path string) error { return os.WriteFile(path, TestDisk(), 0o644) }

// bootCode is the boot sector's program. It writes its line a byte at a time to all places where somebody may look:
// the screen (INT 10h), COM1, and QEMU's debug console where there is one (port 0x402 then reads 0xe9).
//
// As a disassembler shows it (ndisasm -o 0x7c00):
//
//	7C00  EA057C0000   jmp 0x0:0x7c05
//	7C05  31C0         xor ax,ax
//	7C07  8ED8         mov ds,ax
//	7C09  8ED0         mov ss,ax
//	7C0B  BC007C       mov sp,0x7c00
//	7C0E  FC           cld
//	7C0F  BE407C       mov si,0x7c40
//	7C12  AC           lodsb
//	7C13  84C0         test al,al
//	7C15  7425         jz 0x7c3c
//	7C17  50           push ax
//	7C18  B40E         mov ah,0xe
//	7C1A  BB0700       mov bx,0x7
//	7C1D  CD10         int 0x10
//	7C1F  5B           pop bx
//	7C20  BAFD03       mov dx,0x3fd
//	7C23  EC           in al,dx
//	7C24  A820         test al,0x20
//	7C26  74FB         jz 0x7c23
//	7C28  BAF803       mov dx,0x3f8
//	7C2B  88D8         mov al,bl
//	7C2D  EE           out dx,al
//	7C2E  BA0204       mov dx,0x402
//	7C31  EC           in al,dx
//	7C32  3CE9         cmp al,0xe9
//	7C34  75DC         jnz 0x7c12
//	7C36  88D8         mov al,bl
//	7C38  EE           out dx,al
//	7C39  EBD7         jmp short 0x7c12
//	7C3B  90           nop
//	7C3C  FA           cli
//	7C3D  F4           hlt
//	7C3E  EBFC         jmp short 0x7c3c
//	7C40  42454C4C...  db "BELLJAR TEST DISK BOOTED",13,10,0
func bootCode() []byte {
	const (
		start   = loadAddress + 5
		message = loadAddress + 0x40
	)
	var a assembler
	// Some BIOSes come in as 07c0:0000; make it 0000:7c00.
	a.op("jmp 0:start", 0xea, lo(start), hi(start), 0, 0)
	a.op("xor ax, ax", 0x31, 0xc0)
	a.op("mov ds, ax", 0x8e, 0xd8)
	a.op("mov ss, ax", 0x8e, 0xd0)
	a.op("mov sp, loadAddress", 0xbc, lo(loadAddress), hi(loadAddress))
	a.op("cld", 0xfc)
	a.op("mov si, message", 0xbe, lo(message), hi(message))

	a.label("next")
	a.op("lodsb", 0xac)
	a.op("test al, al", 0x84, 0xc0)
	a.short("jz done", 0x74, "done")

	a.op("push ax", 0x50) // the BIOS need not keep al
	a.op("mov ah, 0x0e", 0xb4, 0x0e)
	a.op("mov bx, 0x0007", 0xbb, 0x07, 0x00) // page 0, light grey
	a.op("int 0x10", 0xcd, 0x10)
	a.op("pop bx", 0x5b) // the byte is in bl from here

	a.op("mov dx, com1Status", 0xba, lo(com1Status), hi(com1Status))
	a.label("busy")
	a.op("in al, dx", 0xec) // no COM1 reads as 0xff: no hang
	a.op("test al, thre", 0xa8, thre)
	a.short("jz busy", 0x74, "busy")
	a.op("mov dx, com1Data", 0xba, lo(com1Data), hi(com1Data))
	a.op("mov al, bl", 0x88, 0xd8)
	a.op("out dx, al", 0xee)

	a.op("mov dx, debugPort", 0xba, lo(debugPort), hi(debugPort))
	a.op("in al, dx", 0xec)
	a.op("cmp al, debugMagic", 0x3c, debugMagic)
	a.short("jnz next", 0x75, "next")
	a.op("mov al, bl", 0x88, 0xd8)
	a.op("out dx, al", 0xee)
	a.short("jmp next", 0xeb, "next")

	a.op("nop", 0x90) // so that the message starts at a round address
	a.label("done")
	a.op("cli", 0xfa)
	a.op("hlt", 0xf4) // an NMI may still wake it
	a.short("jmp done", 0xeb, "done")

	if loadAddress+len(a.code) != message {
		panic("the message is not where the code looks for it")
	}
	return append(a.bytes(), TestDiskLine+"\r\n\x00"...)
}

// partition is an entry of the partition table: active, of type 0xef, an EFI system partition. Cylinder, head and sector
// follow the geometry that BIOSes use for small disks: 16 heads of 63 sectors.
func partition(first, count uint32) []byte {
	e := make([]byte, 16)
	e[0], e[4] = 0x80, 0xef
	copy(e[1:], chs(first))
	copy(e[5:], chs(first+count-1))
	binary.LittleEndian.PutUint32(e[8:], first)
	binary.LittleEndian.PutUint32(e[12:], count)
	return e
}

func chs(lba uint32) []byte {
	const heads, sectors = 16, 63
	c, h, s := lba/(heads*sectors), lba/sectors%heads, lba%sectors+1
	return []byte{byte(h), byte(s) | byte(c>>8<<6), byte(c)}
}
