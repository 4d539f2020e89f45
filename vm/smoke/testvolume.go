package smoke

import "encoding/binary"

// The file system on the test disk, FAT12 with clusters of a sector (Microsoft's FAT specification 1.03, from which the fields'
// names are).
const (
	volumeSectors = testDiskSize/sectorSize - 1
	fatSectors    = 6 // room for 2048 entries of 12 bits
	rootEntries   = sectorSize / entrySize
	entrySize     = 32
	firstData     = 1 + 2*fatSectors + 1 // boot sector, two FATs, the root folder
	endOfFile     = 0xfff
	fatDate       = (2024-1980)<<9 | 1<<5 | 1 // the first of January 2024, as the machine's clock has it
)

// espVolume is an EFI system partition with an application for each width of UEFI's, by the names by which firmware looks for
// them on a disk that it knows nothing of (UEFI 2.10, 3.5.1.1).
func espVolume() []byte {
	v := volume{bytes: make([]byte, volumeSectors*sectorSize), next: 2}
	v.bootSector()
	v.fat(0, 0xff8) // BPB_Media
	v.fat(1, endOfFile)
	root := (1 + 2*fatSectors) * sectorSize
	efi := v.folder(root, 0, "EFI        ", 0)
	boot := v.folder(efi, 2, "BOOT       ", 2)
	v.file(boot, 2, "BOOTX64 EFI", application(bits64))
	v.file(boot, 3, "BOOTIA32EFI", application(bits32))
	copy(v.bytes[(1+fatSectors)*sectorSize:], v.bytes[sectorSize:][:fatSectors*sectorSize])
	return v.bytes
}

type volume struct {
	bytes []byte
	next  uint16 // the first free cluster
}

func (v *volume) bootSector() {
	le, b := binary.LittleEndian, v.bytes
	copy(b, "\xeb\x3c\x90BELLJAR ") // BS_jmpBoot, BS_OEMName
	le.PutUint16(b[11:], sectorSize)
	b[13], b[14], b[16] = 1, 1, 2 // sectors a cluster, reserved sectors, FATs
	le.PutUint16(b[17:], rootEntries)
	le.PutUint16(b[19:], volumeSectors)
	b[21] = 0xf8 // BPB_Media: a hard disk
	le.PutUint16(b[22:], fatSectors)
	le.PutUint16(b[24:], 63)                    // BPB_SecPerTrk
	le.PutUint16(b[26:], 16)                    // BPB_NumHeads
	b[28], b[36] = 1, 0x80                      // BPB_HiddSec: the boot sector of the disk; BS_DrvNum
	copy(b[38:], "\x29BJARNO NAME    FAT12   ") // BS_BootSig, BS_VolID, BS_VolLab, BS_FilSysType
	b[510], b[511] = 0x55, 0xaa
}

// fat sets an entry of the first FAT. Two entries share three bytes.
func (v *volume) fat(cluster, value uint16) {
	at := sectorSize + int(cluster)*3/2
	if cluster%2 == 0 {
		v.bytes[at], v.bytes[at+1] = byte(value), v.bytes[at+1]&0xf0|byte(value>>8)
	} else {
		v.bytes[at], v.bytes[at+1] = v.bytes[at]&0x0f|byte(value<<4), byte(value>>4)
	}
}

// take chains as many clusters as size bytes need and returns the first, and its offset.
func (v *volume) take(size int) (first uint16, offset int) {
	first = v.next
	for ; size > sectorSize; size -= sectorSize {
		v.fat(v.next, v.next+1)
		v.next++
	}
	v.fat(v.next, endOfFile)
	v.next++
	return first, (firstData + int(first) - 2) * sectorSize
}

// entry is entry number i of the folder at that offset.
func (v *volume) entry(folder, i int, name string, attributes byte, cluster uint16, size int) {
	e := v.bytes[folder+i*entrySize:][:entrySize]
	copy(e, name)
	e[11] = attributes
	for _, at := range []int{16, 18, 24} { // made, read, written
		binary.LittleEndian.PutUint16(e[at:], fatDate)
	}
	binary.LittleEndian.PutUint16(e[26:], cluster)
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
}

const attrFolder, attrArchive = 0x10, 0x20

// folder adds a folder as entry i of another, whose first cluster is parent, 0 for the root's. Its own entries begin with '.' and '..'.
func (v *volume) folder(in, i int, name string, parent uint16) (offset int) {
	first, offset := v.take(sectorSize)
	v.entry(in, i, name, attrFolder, first, 0)
	v.entry(offset, 0, ".          ", attrFolder, first, 0)
	v.entry(offset, 1, "..         ", attrFolder, parent, 0)
	return offset
}

func (v *volume) file(in, i int, name string, data []byte) {
	first, offset := v.take(len(data))
	v.entry(in, i, name, attrArchive, first, len(data))
	copy(v.bytes[offset:], data)
}
