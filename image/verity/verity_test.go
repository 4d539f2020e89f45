package verity

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// pattern is data in which each block begins with its number, from 1, and is zeros else.
type pattern struct {
	size int64
	flip int64 // the byte at this offset is another; 0 is none
}

func (p pattern) ReadAt(b []byte, off int64) (int, error) {
	n := int(min(int64(len(b)), p.size-off))
	clear(b[:n])
	for at := (off + BlockSize - 1) / BlockSize * BlockSize; at+8 <= off+int64(n); at += BlockSize {
		binary.LittleEndian.PutUint64(b[at-off:], uint64(at/BlockSize+1))
	}
	if p.flip > 0 && p.flip >= off && p.flip < off+int64(n) {
		b[p.flip-off] ^= 1
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// memory is a file in memory that grows.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if grow := int(off) + len(p) - len(m.b); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return copy(m.b[off:], p), nil
}

var testUUID = uuid.MustParse("6e2be550-2d00-5c71-8dcf-ff76fe253dd1")

// What veritysetup itself makes, at the sizes where a level or a block of hashes begins.
func TestAsVeritysetup(t *testing.T) {
	f, err := os.Open("testdata/veritysetup.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if fields[0] == "#" || len(fields) != 4 {
			continue
		}
		cases++
		t.Run(fields[0]+" blocks, salt "+fields[1], func(t *testing.T) {
			blocks, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			var salt []byte
			if fields[1] != "-" {
				if salt, err = hex.DecodeString(fields[1]); err != nil {
					t.Fatal(err)
				}
			}
			var out memory
			size := blocks * BlockSize
			tree, err := Write(context.Background(), &out, pattern{size: size}, size, Options{Salt: salt, UUID: testUUID})
			if err != nil {
				t.Fatal(err)
			}
			if tree.RootHex() != fields[2] {
				t.Errorf("root hash %s, want %s", tree.RootHex(), fields[2])
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(out.b)); got != fields[3] {
				t.Errorf("superblock and tree have the digest %s, want %s", got, fields[3])
			}
			if tree.Size != int64(len(out.b)) || Size(size) != tree.Size {
				t.Errorf("Size says %d and %d bytes, written were %d", tree.Size, Size(size), len(out.b))
			}
		})
	}
	if cases < 16 {
		t.Errorf("the golden file has %d cases, want 16", cases)
	}
}

// One bit anywhere gives another root, and touches one block of each level and no other.
func TestFlippedByte(t *testing.T) {
	const blocks = 129
	size := int64(blocks * BlockSize)
	var want memory
	tree, err := Write(context.Background(), &want, pattern{size: size}, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at    int64
		leaf  int64 // the block of hashes that changes, after superblock and root
		first string
	}{
		{9, 0, "first block"}, {127*BlockSize + 4095, 0, "last of the first block of hashes"},
		{128 * BlockSize, 1, "first of the second"}, {size - 1, 1, "last byte"},
	} {
		t.Run(c.first, func(t *testing.T) {
			at := max(c.at, 1)
			var got memory
			flipped, err := Write(context.Background(), &got, pattern{size: size, flip: at}, size, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(flipped.Root, tree.Root) {
				t.Error("the root hash is the same")
			}
			for n := range int64(4) { // superblock, root's block, two blocks of hashes
				same := bytes.Equal(got.b[n*BlockSize:(n+1)*BlockSize], want.b[n*BlockSize:(n+1)*BlockSize])
				if changed := n == 1 || n == 2+c.leaf; same == changed {
					t.Errorf("block %d of the tree: same %t, want %t", n, same, !changed)
				}
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(gone)
	for _, c := range []struct {
		name string
		ctx  context.Context
		data io.ReaderAt
		size int64
		salt int
		want string
	}{
		{"no data", context.Background(), pattern{}, 0, 0, "0 bytes of data"},
		{"half a block", context.Background(), pattern{}, BlockSize / 2, 0, "2048 bytes of data"},
		{"cut off", context.Background(), pattern{size: 3 * BlockSize}, 4 * BlockSize, 0, "data at 12288: unexpected EOF"},
		{"long salt", context.Background(), pattern{}, BlockSize, 257, "a salt of 257 bytes"},
		{"cancelled", ctx, pattern{size: BlockSize}, BlockSize, 0, "gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Write(c.ctx, new(memory), c.data, c.size, Options{Salt: make([]byte, c.salt)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// The tree of a root of 400 MB.
func BenchmarkWrite(b *testing.B) {
	const size = 400 << 20
	f, err := os.Create(b.TempDir() + "/data")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Write(context.Background(), new(memory), f, size, Options{Salt: make([]byte, 32)}); err != nil {
			b.Fatal(err)
		}
	}
}
