package image

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// fat is a FAT32 volume that has just been made, as far as settling it needs. Names of fields are those of Microsoft's
// FAT specification (version 1.03).
type fat struct {
	f           *os.File
	table       []byte // the first FAT
	data        int64  // where cluster 2 lies
	cluster     int64  // bytes
	root        uint32
	date, clock uint16
	seen        map[uint32]bool
}

// settleFAT makes a volume of go-diskfs's the same at any time of day, and mends what that library (v1.9.4) leaves for
// fsck: dates and the volume's serial number come from the clock, '..' of a folder in the root is cluster 0, and the
// count of free clusters is told.
func settleFAT(f *os.File, clock time.Time) error {
	boot := make([]byte, sectorSize)
	if _, err := f.ReadAt(boot, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	reserved, fats := int64(le.Uint16(boot[14:])), int64(boot[16]) // BPB_RsvdSecCnt, BPB_NumFATs
	length := int64(le.Uint32(boot[36:])) * sectorSize             // BPB_FATSz32
	v := &fat{
		f: f, table: make([]byte, length), data: reserved*sectorSize + fats*length, cluster: int64(boot[13]) * sectorSize,
		root: le.Uint32(boot[44:]), seen: map[uint32]bool{},
	}
	v.date, v.clock = dosTime(clock)
	if _, err := f.ReadAt(v.table, reserved*sectorSize); err != nil {
		return err
	}
	if err := v.folder(v.root); err != nil {
		return err
	}
	if err := v.count(boot); err != nil {
		return err
	}
	serial := le.AppendUint32(nil, uint32(clock.Unix()))
	for _, at := range []int64{67, 6*sectorSize + 67} { // BS_VolID, and in the copy of the boot sector
		if _, err := f.WriteAt(serial, at); err != nil {
			return err
		}
	}
	return nil
}

const endOfChain = 0x0ffffff8

// folder settles a folder's entries and those below.
func (v *fat) folder(first uint32) error {
	le := binary.LittleEndian
	b := make([]byte, v.cluster)
	for c := first; c < endOfChain; c = le.Uint32(v.table[4*c:]) & 0x0fffffff {
		if v.seen[c] || c < 2 || int(c) >= len(v.table)/4 {
			return fmt.Errorf("FAT: a chain that is broken at cluster %d", c)
		}
		v.seen[c] = true
		at := v.data + int64(c-2)*v.cluster
		if _, err := v.f.ReadAt(b, at); err != nil {
			return err
		}
		var below []uint32
		for e := b; len(e) >= 32 && e[0] != 0; e = e[32:] {
			if next := v.entry(e[:32]); next != 0 {
				below = append(below, next)
			}
		}
		if _, err := v.f.WriteAt(b, at); err != nil {
			return err
		}
		for _, next := range below {
			if err := v.folder(next); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry settles one entry and returns the first cluster of a folder.
func (v *fat) entry(e []byte) uint32 {
	le := binary.LittleEndian
	attr := e[11]
	if attr&0x3f == 0x0f || e[0] == 0xe5 { // a part of a long name; not in use
		return 0
	}
	e[13] = 0                     // DIR_CrtTimeTenth
	le.PutUint16(e[14:], v.clock) // DIR_CrtTime
	le.PutUint16(e[16:], v.date)  // DIR_CrtDate
	le.PutUint16(e[18:], v.date)  // DIR_LstAccDate
	le.PutUint16(e[22:], v.clock) // DIR_WrtTime
	le.PutUint16(e[24:], v.date)  // DIR_WrtDate
	if attr&0x08 != 0 {           // the volume's label
		return 0
	}
	first := uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))
	switch {
	case attr&0x10 == 0 || e[0] == '.' && e[1] == ' ':
		return 0
	case e[0] == '.':
		if first == v.root {
			le.PutUint16(e[20:], 0)
			le.PutUint16(e[26:], 0)
		}
		return 0
	}
	return first
}

// count writes FSI_Free_Count and FSI_Nxt_Free into the FSInfo sector and its copy.
func (v *fat) count(boot []byte) error {
	le := binary.LittleEndian
	sectors := int64(le.Uint32(boot[32:]))
	clusters := (sectors*sectorSize - v.data) / v.cluster
	free, next := uint32(0), uint32(0)
	for c := uint32(2); int64(c) < clusters+2; c++ {
		if le.Uint32(v.table[4*c:])&0x0fffffff == 0 {
			if free++; next == 0 {
				next = c
			}
		}
	}
	b := le.AppendUint32(le.AppendUint32(nil, free), next)
	for _, at := range []int64{1*sectorSize + 488, 7*sectorSize + 488} {
		if _, err := v.f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}

// dosTime is a date as FAT has it: two seconds are the least, 1980 the first year.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	year := min(max(t.Year(), 1980), 2107)
	return uint16((year-1980)<<9 | int(t.Month())<<5 | t.Day()), uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}
