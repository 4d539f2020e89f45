package image

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// sealed is a root disk around data that stands for an EROFS image.
func sealed(t *testing.T, data []byte, arch string) (disk []byte, rootHash string) {
	t.Helper()
	f := tempFile(t)
	if _, err := f.WriteAt(data, partStart); err != nil {
		t.Fatal(err)
	}
	rootHash, err := sealDisk(context.Background(), f, int64(len(data)), arch)
	if err != nil {
		t.Fatal(err)
	}
	disk, err = io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return disk, rootHash
}

func TestSealDisk(t *testing.T) {
	data := bytes.Repeat([]byte("content "), (3<<20)/8+512)
	types := map[string][2]string{
		"x86_64": {"Linux root (x86-64)", "Linux root verity (x86-64)"},
		"i686":   {"Linux root (x86)", "Linux root verity (x86)"},
	}
	for arch, kinds := range types {
		t.Run(arch, func(t *testing.T) {
			disk, rootHash := sealed(t, data, arch)
			_, parts, note, err := readPartitions(bytes.NewReader(disk), int64(len(disk)))
			if err != nil || note != "" || len(parts) != 2 {
				t.Fatalf("got %+v, %q, %v", parts, note, err)
			}
			root, hashes := parts[0], parts[1]
			if root.Label != "root" || hashes.Label != "root-verity" || root.Type != kinds[0] || hashes.Type != kinds[1] {
				t.Errorf("got %+v", parts)
			}
			// So the specification has it: whoever knows the root hash finds both partitions.
			if got := strings.ReplaceAll(root.UUID+hashes.UUID, "-", ""); !strings.EqualFold(got, rootHash) {
				t.Errorf("the partitions' identifiers are %s, want the two halves of %s", got, rootHash)
			}
			if root.Offset != partStart || root.Size != 4<<20 || hashes.Offset != root.Offset+root.Size {
				t.Errorf("got %+v", parts)
			}
			if !bytes.Equal(disk[root.Offset:root.Offset+int64(len(data))], data) {
				t.Error("the root is not what it was")
			}
			if !bytes.HasPrefix(disk[hashes.Offset:], []byte("verity\x00\x00")) {
				t.Errorf("the hash tree begins %q", disk[hashes.Offset:hashes.Offset+8])
			}
			again, hashAgain := sealed(t, data, arch)
			if !bytes.Equal(disk, again) || rootHash != hashAgain {
				t.Error("the same root gave another disk")
			}
			changed := bytes.Clone(data)
			changed[len(changed)-1] ^= 1
			if _, other := sealed(t, changed, arch); other == rootHash {
				t.Error("another root has the same root hash")
			}
		})
	}
}

// A root that is full to the last block of its partition, and one that is not.
func TestSealDiskCoversThePartition(t *testing.T) {
	for _, size := range []int{1 << 20, 1<<20 + 4096, 2<<20 - 4096} {
		disk, rootHash := sealed(t, bytes.Repeat([]byte{7}, size), "x86_64")
		padded := bytes.Repeat([]byte{7}, size)
		padded = append(padded, make([]byte, roundUp(int64(size))-int64(size))...)
		want, hash := sealed(t, padded, "x86_64")
		if !bytes.Equal(disk, want) || rootHash != hash {
			t.Errorf("%d bytes: the zeros behind the root are not covered", size)
		}
	}
}
