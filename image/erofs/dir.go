package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
)

// direntSize is that of struct erofs_dirent. A directory is a sequence of blocks, each with its entries first and
// their names behind them; the last name of a block ends at the first NUL or with the block. All names of a
// directory, "." and ".." among them, stand in the order of their bytes: the kernel looks them up by bisection, over
// the blocks and then within one (fs/erofs/namei.c).
const direntSize = 12

// dirent is one name in a directory.
type dirent struct {
	name string
	nid  uint64
	kind uint8
}

// dirNames are the names of a folder in the order in which they are stored.
func dirNames(n *Node) []string {
	return slices.Sorted(func(yield func(string) bool) {
		if !yield(".") || !yield("..") {
			return
		}
		maps.Keys(n.Children)(yield)
	})
}

// dirBlocks cuts a directory's names into blocks: the ends of each block's run of names, and how many bytes of the
// last block are used.
func dirBlocks(names []string) (ends []int, last int) {
	for i, name := range names {
		need := direntSize + len(name)
		if last+need > BlockSize {
			ends = append(ends, i)
			last = 0
		}
		last += need
	}
	return append(ends, len(names)), last
}

// dirSize is the size of the directory that holds these names. It depends on nothing else.
func dirSize(names []string) int64 {
	ends, last := dirBlocks(names)
	return int64(len(ends)-1)*BlockSize + int64(last)
}

// encodeDir makes a directory's content; the entries are in order.
func encodeDir(names []string, entry func(name string) (nid uint64, kind uint8)) []byte {
	ends, last := dirBlocks(names)
	content := make([]byte, (len(ends)-1)*BlockSize+last)
	start := 0
	for i, end := range ends {
		block := content[i*BlockSize:]
		at := direntSize * (end - start)
		for j, name := range names[start:end] {
			d := block[j*direntSize:]
			nid, kind := entry(name)
			binary.LittleEndian.PutUint64(d, nid)
			binary.LittleEndian.PutUint16(d[8:], uint16(at))
			d[10] = kind
			at += copy(block[at:], name)
		}
		start = end
	}
	return content
}

// decodeDir reads a directory of that size, block by block, and yields its entries, which it holds to the order that
// lookups rely on.
func decodeDir(r io.Reader, size, blockSize int64, yield func(dirent) error) error {
	before := ""
	block := make([]byte, min(size, blockSize))
	for off := int64(0); off < size; off += blockSize {
		block = block[:min(size-off, blockSize)]
		if _, err := io.ReadFull(r, block); err != nil {
			return fmt.Errorf("directory block at byte %d: %w", off, err)
		}
		entries, err := decodeDirBlock(block)
		if err != nil {
			return fmt.Errorf("directory block at byte %d: %w", off, err)
		}
		for _, d := range entries {
			if d.name <= before {
				return fmt.Errorf("the names %q and %q are not in order", before, d.name)
			}
			before = d.name
			if err := yield(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeDirBlock follows erofs_fill_dentries of fs/erofs/dir.c: the first name's offset tells the number of entries.
func decodeDirBlock(block []byte) ([]dirent, error) {
	if len(block) < direntSize {
		return nil, fmt.Errorf("%d bytes, too few for an entry", len(block))
	}
	first := int(binary.LittleEndian.Uint16(block[8:]))
	if first < direntSize || first%direntSize != 0 || first > len(block) {
		return nil, fmt.Errorf("names that begin at byte %d of %d", first, len(block))
	}
	entries := make([]dirent, first/direntSize)
	for i := range entries {
		d := block[i*direntSize:]
		start := int(binary.LittleEndian.Uint16(d[8:]))
		end := len(block)
		if i+1 < len(entries) {
			end = int(binary.LittleEndian.Uint16(d[direntSize+8:]))
		}
		if start < first || start > end || end > len(block) {
			return nil, fmt.Errorf("entry %d: a name from byte %d to %d of %d", i, start, end, len(block))
		}
		name := block[start:end]
		if i+1 == len(entries) {
			name, _, _ = bytes.Cut(name, []byte{0})
		}
		entries[i] = dirent{name: string(name), nid: binary.LittleEndian.Uint64(d), kind: d[10]}
	}
	return entries, nil
}
