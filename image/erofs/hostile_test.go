package erofs

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"
)

// holes is an image that ends in a hole of any size, as a file on the disk may.
type holes []byte

func (h holes) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(h)) {
		copy(p, h[off:])
	}
	return len(p), nil
}

var _ io.ReaderAt = holes(nil)

// A small file that claims, with a hole at its end, to hold a folder of gigabytes: an error, and no memory. Folders are
// read block by block.
func TestHugeFolder(t *testing.T) {
	b := image(t, small())
	root := read(t, bytes.NewReader(b))
	le := binary.LittleEndian
	le.PutUint32(b[superOffset+36:], 1<<22)                            // blocks: 16 GiB
	le.PutUint32(b[int(root.Children["long"].Nid)*slotSize+8:], 1<<30) // the folder's size
	seal(b)
	m, err := Open(holes(b))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = m.Tree()
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "/long/: directory block at byte 4096: names that begin at byte") {
		t.Errorf("got %v", err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 16<<20 {
		t.Errorf("it took %d MiB of memory", spent>>20)
	}
}
