package main

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
)

// checkRoot lays dm-verity over the data device: from now on each block that is read through /dev/dm-0 is checked by the
// hash tree on the other device, and that by the root hash.
func checkRoot(data, hashes, root string) error {
	head, err := readHead(hashes)
	if err != nil {
		return err
	}
	sb, err := parseSuperblock(head)
	if err != nil {
		return fail(hashes, err)
	}
	t, err := sb.target(data, hashes, root)
	if err != nil {
		return err
	}
	return activate("root", t)
}

// readHead reads where the superblock lies: the first 512 bytes of the partition.
func readHead(device string) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, superblockSize)
	_, err = f.ReadAt(head, 0)
	return head, err
}

// superblockSize is the length of veritysetup's superblock. The tree begins at the next hash block.
const superblockSize = 512

// superblock is what the kernel has to be told of a hash tree.
type superblock struct {
	algorithm  string
	dataBlock  uint64 // bytes
	hashBlock  uint64 // bytes
	dataBlocks uint64
	salt       []byte
}

// parseSuperblock reads veritysetup's superblock, version 1 with hash type 1
// (cryptsetup, lib/verity/verity.c, struct verity_sb; numbers are little endian).
func parseSuperblock(b []byte) (superblock, error) {
	le := binary.LittleEndian
	if len(b) < superblockSize || string(b[:8]) != "verity\x00\x00" {
		return superblock{}, errors.New("no dm-verity superblock")
	}
	if version, kind := le.Uint32(b[8:]), le.Uint32(b[12:]); version != 1 || kind != 1 {
		return superblock{}, errors.New("the superblock is not of version 1 and hash type 1")
	}
	s := superblock{
		algorithm: text(b[32:64]),
		dataBlock: uint64(le.Uint32(b[64:])), hashBlock: uint64(le.Uint32(b[68:])), dataBlocks: le.Uint64(b[72:]),
	}
	size := int(le.Uint16(b[80:]))
	switch {
	case !plain(s.algorithm):
		return superblock{}, errors.New("the superblock names no hash algorithm")
	case !blockSize(s.dataBlock) || !blockSize(s.hashBlock):
		return superblock{}, errors.New("the superblock's block size is not a power of two from 512 to 65536")
	case s.dataBlocks == 0 || s.dataBlocks > 1<<40:
		return superblock{}, errors.New("the superblock's number of data blocks is out of range")
	case size > 256:
		return superblock{}, errors.New("the superblock's salt is longer than 256 bytes")
	}
	s.salt = b[88 : 88+size]
	return s, nil
}

func blockSize(n uint64) bool { return n >= 512 && n <= 64<<10 && n&(n-1) == 0 }

// text is a string up to its NUL.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// plain says that a word may stand in the target's parameters, which are separated by blanks.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// target is one line of a device-mapper table.
type target struct {
	sectors uint64 // of 512 bytes, whatever the device's
	kind    string
	params  string
}

// target is the line for this tree: Documentation/admin-guide/device-mapper/verity.rst, 'Construction Parameters'.
func (s superblock) target(data, hashes, root string) (target, error) {
	if !isHex(root) {
		return target{}, errors.New("the root hash is not a number in hex")
	}
	salt := "-"
	if len(s.salt) > 0 {
		salt = hexOf(s.salt)
	}
	num := func(n uint64) string { return strconv.FormatUint(n, 10) }
	start := (superblockSize + s.hashBlock - 1) / s.hashBlock
	return target{
		sectors: s.dataBlocks * (s.dataBlock / 512),
		kind:    "verity",
		params: "1 " + data + " " + hashes + " " + num(s.dataBlock) + " " + num(s.hashBlock) + " " + num(s.dataBlocks) + " " +
			num(start) + " " + s.algorithm + " " + root + " " + salt,
	}, nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0 && len(s)%2 == 0
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
