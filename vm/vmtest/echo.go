package vmtest

// The registers of a virtio device in its legacy form, from its I/O port on, and its constants: Virtual I/O Device (VIRTIO)
// 1.2, 4.1.4.8 'Legacy Interfaces: A Note on PCI Device Layout', and 5.3 'Console Device'.
const (
	virtioID       = 0x10031af4 // device 0x1003 of vendor 0x1af4: a console
	virtioPort     = 0xc000     // where the ROM puts it
	guestFeatures  = virtioPort + 4
	queueAddress   = virtioPort + 8 // in pages of 4096 bytes
	queueSelect    = virtioPort + 14
	queueNotify    = virtioPort + 16
	deviceStatus   = virtioPort + 18
	multiport      = 1 << 1
	acknowledge    = 1
	driverOK       = 4
	hasDriver      = 2
	deviceReady    = 0
	portReady      = 3
	portOpen       = 6
	deviceWrites   = 2 // a descriptor's flag
	usedOffset     = 0x1000
	portAvail      = 0x800 // behind 128 descriptors: a port's queues are that long
	controlAvail   = 0x200 // behind 32
	dataBytes      = 0x4000
	descriptorSize = 16
)

// Where the queues and their buffers lie in the first 64 KiB of memory, which is all zeros at power-on.
const (
	controlOut     = 0x3000 // queue 3
	portIn         = 0x5000 // queue 4
	portOut        = 0x7000 // queue 5
	controlBuffers = 0xa000
	dataBuffer     = 0xb000
)

// EchoROM is a firmware image that writes line to the consoles, opens the first virtio-serial port of a machine and sends
// back what comes there, until the machine is ended. It drives the device itself: no kernel is needed.
func EchoROM(line string) []byte {
	a := &assembler{}
	a.say()
	a.findVirtio()

	a.out(deviceStatus, acknowledge|hasDriver)
	a.outl(guestFeatures, multiport)
	for queue, base := range map[uint16]uint32{3: controlOut, 4: portIn, 5: portOut} {
		a.outw(queueSelect, queue)
		a.outl(queueAddress, base>>12)
	}
	a.out(deviceStatus, acknowledge|hasDriver|driverOK)

	// What the guest has to say on the control queue, of the device and of port 1. Nobody listens to the answers.
	for i, message := range [][2]uint32{{0, deviceReady}, {1, portReady}, {1, portOpen}} {
		buffer := uint16(controlBuffers + 8*i)
		a.storel(buffer, message[0])
		a.storel(buffer+4, message[1]|1<<16)
		a.descriptor(controlOut+uint16(descriptorSize*i), uint32(buffer), 8, 0)
		a.storew(controlOut+controlAvail+4+uint16(2*i), uint16(i))
	}
	a.storew(controlOut+controlAvail+2, 3)
	a.outw(queueNotify, 3)

	// One buffer goes round: each queue has one descriptor, number 0, which all zeros in its ring name.
	a.descriptor(portIn, dataBuffer, dataBytes, deviceWrites)
	a.descriptor(portOut, dataBuffer, 0, 0)
	a.bytes(0x31, 0xdb) // xor bx, bx: the rings' index
	loop := len(a.code)
	a.bytes(0x89, 0xde, 0x83, 0xe6, 0x7f, 0xc1, 0xe6, 0x03) // mov si, bx; and si, 127; shl si, 3
	a.bytes(0x43)                                           // inc bx
	a.offer(portIn, 4)
	a.bytes(0x66, 0x8b, 0x84) // mov eax, [si + used ring's first length]
	a.word(portIn + usedOffset + 8)
	a.bytes(0x66, 0xa3) // mov [the other descriptor's length], eax
	a.word(portOut + 8)
	a.offer(portOut, 5)
	a.bytes(0xe9) // jmp loop
	a.word(uint16(loop - len(a.code) - 2))
	return a.rom(line)
}

// findVirtio looks for a virtio console on PCI bus 0, and gives it its I/O port. The loop ends with the machine if there
// is none.
func (a *assembler) findVirtio() {
	a.bytes(0x31, 0xc0, 0x8e, 0xd8) // xor ax, ax; mov ds, ax
	a.bytes(0x66, 0xbb)             // mov ebx, device 1, function 0, register 0
	a.long(1<<31 | 1<<11)
	find := len(a.code)
	a.select32(0)
	a.bytes(0xba) // mov dx, pciData
	a.word(pciData)
	a.bytes(0x66, 0xed, 0x66, 0x3d) // in eax, dx; cmp eax, virtioID
	a.long(virtioID)
	a.bytes(0x74, 9)          // je past the loop
	a.bytes(0x66, 0x81, 0xc3) // add ebx, one device
	a.long(1 << 11)
	a.bytes(0xeb, byte(find-len(a.code)-2))
	a.select32(0x10) // BAR 0
	a.outl(pciData, virtioPort)
	a.select32(0x04) // command: I/O, memory, bus master
	a.outl(pciData, 7)
}

// select32 addresses a register of the device in ebx.
func (a *assembler) select32(register byte) {
	a.bytes(0x66, 0x89, 0xd8, 0x0c, register, 0xba) // mov eax, ebx; or al, register; mov dx, pciAddress
	a.word(pciAddress)
	a.bytes(0x66, 0xef) // out dx, eax
}

// offer hands the queue's descriptor to the device, as number bx, and waits until it is used.
func (a *assembler) offer(base, queue uint16) {
	a.bytes(0x89, 0x1e) // mov [avail index], bx
	a.word(base + portAvail + 2)
	a.outw(queueNotify, queue)
	a.bytes(0x39, 0x1e) // cmp [used index], bx
	a.word(base + usedOffset + 2)
	a.bytes(0x75, 0xfa) // jne back
}

// descriptor writes one: struct virtq_desc.
func (a *assembler) descriptor(at uint16, address, size uint32, flags uint16) {
	a.storel(at, address)
	a.storel(at+8, size)
	a.storew(at+12, flags)
}

// storel writes 32 bits to memory.
func (a *assembler) storel(at uint16, value uint32) {
	a.bytes(0x66, 0xc7, 0x06) // mov dword [at], value
	a.word(at)
	a.long(value)
}

// storew writes 16 bits to memory.
func (a *assembler) storew(at, value uint16) {
	a.bytes(0xc7, 0x06) // mov word [at], value
	a.word(at)
	a.word(value)
}

// outw writes 16 bits to a port.
func (a *assembler) outw(port, value uint16) {
	a.bytes(0xb8) // mov ax, value
	a.word(value)
	a.bytes(0xba) // mov dx, port
	a.word(port)
	a.bytes(0xef) // out dx, ax
}
