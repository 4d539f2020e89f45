// Package verity knows dm-verity's hash tree as veritysetup lays it on a disk: the superblock, the levels of hashes
// from the root down to the data, the order in which they lie (kernel,
// Documentation/admin-guide/device-mapper/verity.rst; cryptsetup's wiki, page DMVerity).
//
// It refuses to know what the data is, which partition has the tree, and how a kernel is told the root hash.
package verity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// BlockSize is the size of both data and hash blocks: a page of the guest.
const BlockSize = 4096

// The algorithm, by the name that the kernel's crypto API gives it. SHA-256 is what every stock kernel has built in.
const (
	Algorithm = "sha256"
	hashSize  = sha256.Size
	perBlock  = BlockSize / hashSize // hashes in a block: a power of two
)

// Tree is what is known of a hash tree once it is written.
type Tree struct {
	Root []byte // the root hash: what the data must be, in one number
	Size int64  // bytes that superblock and tree take
}

// RootHex is the root hash as the kernel's command line has it.
func (t Tree) RootHex() string { return hex.EncodeToString(t.Root) }

// Options say how a tree is made.
type Options struct {
	Salt []byte   // put before each block that is hashed; at most 256 bytes
	UUID [16]byte // of the superblock; the kernel does not look at it
}

// Size is how many bytes Write writes for that much data.
func Size(data int64) int64 {
	blocks := int64(1) // the superblock's
	for _, n := range levels(data / BlockSize) {
		blocks += n
	}
	return blocks * BlockSize
}

// levels counts the hash blocks of each level, the one next to the data first. A single block of data has none: its
// own hash is the root.
func levels(blocks int64) []int64 {
	var all []int64
	for n := blocks; n > 1; {
		n = (n + perBlock - 1) / perBlock
		all = append(all, n)
	}
	return all
}

// Write writes superblock and tree of size bytes of data, and returns the root hash. The data is read once, by as many
// goroutines as there are cores; the tree of the levels above it stays in memory (a 128th of the data).
func Write(ctx context.Context, out io.WriterAt, data io.ReaderAt, size int64, o Options) (Tree, error) {
	switch {
	case size <= 0 || size%BlockSize != 0:
		return Tree{}, fmt.Errorf("hash tree: %d bytes of data are not a number of blocks of %d", size, BlockSize)
	case len(o.Salt) > maxSalt:
		return Tree{}, fmt.Errorf("hash tree: a salt of %d bytes is longer than %d", len(o.Salt), maxSalt)
	}
	blocks := size / BlockSize
	counts := levels(blocks)
	hashes, err := hashData(ctx, data, blocks, o.Salt)
	if err != nil {
		return Tree{}, fmt.Errorf("hash tree: %w", err)
	}
	// The levels lie from the root down: the last one written here comes first on the disk.
	end := Size(size)
	for _, n := range counts {
		level := make([]byte, n*BlockSize)
		copy(level, hashes)
		end -= int64(len(level))
		if _, err := out.WriteAt(level, end); err != nil {
			return Tree{}, fmt.Errorf("hash tree: %w", err)
		}
		hashes = hashBlocks(nil, level, o.Salt)
	}
	if _, err := out.WriteAt(superblock(blocks, o), 0); err != nil {
		return Tree{}, fmt.Errorf("hash tree: %w", err)
	}
	return Tree{Root: hashes, Size: Size(size)}, nil
}

// chunk is how much one goroutine reads at a time: 256 blocks.
const chunk = 1 << 20

// hashData hashes the data's blocks, several chunks at a time.
func hashData(ctx context.Context, data io.ReaderAt, blocks int64, salt []byte) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hashes := make([]byte, blocks*hashSize)
	next := make(chan int64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for at := range next {
				n := min(chunk, blocks*BlockSize-at)
				if got, err := data.ReadAt(buf[:n], at); int64(got) < n {
					cancel(fmt.Errorf("data at %d: %w", at+int64(got), noEOF(err)))
					continue
				}
				first := at / BlockSize * hashSize
				hashBlocks(hashes[first:first:first+n/BlockSize*hashSize], buf[:n], salt)
			}
		})
	}
	for at := int64(0); at < blocks*BlockSize && ctx.Err() == nil; at += chunk {
		next <- at
	}
	close(next)
	wg.Wait()
	return hashes, context.Cause(ctx)
}

func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReaderAt's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// hashBlocks appends the hash of each block: of the salt and the block, which is hash type 1.
func hashBlocks(hashes, data, salt []byte) []byte {
	h := sha256.New()
	for ; len(data) > 0; data = data[BlockSize:] {
		h.Reset()
		h.Write(salt)
		h.Write(data[:BlockSize])
		hashes = h.Sum(hashes)
	}
	return hashes
}
