// Package qcow2 writes QEMU's disk format (QEMU, docs/interop/qcow2.txt), version 3: the same bytes from the same disk,
// clusters of zeros left out, the others compressed with zstd on all cores. It refuses to read the format, and to know
// backing files, snapshots and encryption.
package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/belljar/belljar/image/inorder"
)

// The format's constants, for clusters of 64 KiB, which is qemu-img's own choice.
const (
	magic       = 0x514649fb // "QFI\xfb"
	clusterBits = 16
	cluster     = 1 << clusterBits
	sector      = 512

	headerLen     = 112
	incompatZstd  = 1 << 3 // the field compression_type is there and is not zlib's
	typeZstd      = 1
	refcountOrder = 4 // reference counts of 16 bits

	copied      = 1 << 63              // in a table's entry: the cluster's reference count is one
	compressed  = 1 << 62              // in an L2 entry: a descriptor of compressed bytes
	sectorShift = 62 - clusterBits + 8 // where the descriptor's count of further sectors begins

	l2Entries  = cluster / 8
	refEntries = cluster / 2
)

// MaxSize is the largest disk that the writer takes: what one cluster of L1 entries can map.
const MaxSize = cluster / 8 * l2Entries * cluster

// Options say how the image is made.
type Options struct {
	Progress func(done, all int64) // bytes of the disk read so far; may be nil
}

// Write writes a disk of that size as a qcow2 image and returns the image's size. The header comes last: an image that
// is cut off is none.
func Write(ctx context.Context, out io.WriterAt, disk io.ReaderAt, size int64, o Options) (int64, error) {
	if size <= 0 || size%sector != 0 || size > MaxSize {
		return 0, fmt.Errorf("qcow2: a disk of %d bytes", size)
	}
	clusters := (size + cluster - 1) / cluster
	w := &writer{out: out, l2: make([]uint64, (clusters+l2Entries-1)/l2Entries*l2Entries), end: cluster}
	w.used(0, 1)
	if err := w.data(ctx, disk, size, o); err != nil {
		return 0, fmt.Errorf("qcow2: %w", err)
	}
	if err := w.tables(size); err != nil {
		return 0, fmt.Errorf("qcow2: %w", err)
	}
	return w.end, nil
}

type writer struct {
	out  io.WriterAt
	l2   []uint64 // all L2 tables, one after another
	refs []uint16 // by cluster of the image
	tail int64    // where compressed bytes may go on within the last cluster that has some; 0: nowhere
	end  int64    // end of the last cluster that is taken
}

// used counts a reference to each cluster from first on.
func (w *writer) used(first, n int64) {
	for int64(len(w.refs)) < first+n {
		w.refs = append(w.refs, 0)
	}
	for i := first; i < first+n; i++ {
		w.refs[i]++
	}
}

// take gives n bytes of new clusters.
func (w *writer) take(n int64) int64 {
	at := w.end
	count := (n + cluster - 1) / cluster
	w.used(at/cluster, count)
	w.end += count * cluster
	return at
}

// piece is a cluster of the disk on its way to the image.
type piece struct {
	index int64
	plain *[]byte
	z     []byte // compressed; nil where that does not pay
	zero  bool
}

// data writes the disk's clusters.
func (w *writer) data(ctx context.Context, disk io.ReaderAt, size int64, o Options) (err error) {
	buffers := sync.Pool{New: func() any { b := make([]byte, cluster); return &b }}
	encoders := sync.Pool{New: func() any {
		return must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(cluster), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)))
	}}
	q := inorder.New(ctx, func(p *piece) error {
		if p.zero = zero(*p.plain); p.zero {
			return nil
		}
		e := encoders.Get().(*zstd.Encoder)
		defer encoders.Put(e)
		if z := e.EncodeAll(*p.plain, nil); len(z) <= cluster-sector {
			p.z = z
		}
		return nil
	}, func(p *piece) error {
		defer buffers.Put(p.plain)
		return w.store(p)
	})
	defer func() {
		if e := q.Close(); e != nil {
			err = e // the cause, where Put only told that there was one
		}
	}()
	for off := int64(0); off < size; off += cluster {
		b := buffers.Get().(*[]byte)
		n := min(cluster, size-off)
		if got, err := disk.ReadAt((*b)[:n], off); int64(got) < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read disk at %d: %w", off, err)
		}
		clear((*b)[n:])
		if err := q.Put(piece{index: off / cluster, plain: b}); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(off+n, size)
		}
	}
	return nil
}

// store gives a piece its place, in order.
func (w *writer) store(p *piece) error {
	switch {
	case p.zero: // what has no place reads as zeros
		return nil
	case p.z == nil:
		at := w.take(cluster)
		w.l2[p.index] = uint64(at) | copied
		_, err := w.out.WriteAt(*p.plain, at)
		return err
	}
	at, n := w.pack(int64(len(p.z)))
	more := (at+n-1)/sector - at/sector
	w.l2[p.index] = compressed | uint64(more)<<sectorShift | uint64(at)
	_, err := w.out.WriteAt(p.z, at)
	return err
}

// pack gives n bytes a place behind the compressed bytes before them. They may lie across clusters, if these are
// neighbours; each cluster is referred to once for every piece that touches it.
func (w *writer) pack(n int64) (at, size int64) {
	left := -w.tail & (cluster - 1)
	switch {
	case w.tail == 0 || n > left && w.tail+left != w.end:
		at = w.take(n)
	default:
		at = w.tail
		w.used(at/cluster, 1)
		if n > left {
			w.take(n - left)
		}
	}
	w.tail = at + n
	if w.tail%cluster == 0 {
		w.tail = 0
	}
	return at, n
}

// tables writes the L2 tables, the L1 table, the reference counts, and last the header.
func (w *writer) tables(size int64) error {
	be := binary.BigEndian
	var l1 []byte
	for first := 0; first < len(w.l2); first += l2Entries {
		table := w.l2[first:][:l2Entries]
		if empty(table) {
			l1 = be.AppendUint64(l1, 0)
			continue
		}
		var b []byte
		for _, e := range table {
			b = be.AppendUint64(b, e)
		}
		at := w.take(cluster)
		l1 = be.AppendUint64(l1, uint64(at)|copied)
		if _, err := w.out.WriteAt(b, at); err != nil {
			return err
		}
	}
	l1At := w.take(cluster)
	if err := w.put(l1, l1At); err != nil {
		return err
	}
	tableAt, tableClusters, err := w.refcounts()
	if err != nil {
		return err
	}
	h := be.AppendUint32(nil, magic)
	h = be.AppendUint32(h, 3)
	h = be.AppendUint64(h, 0) // no backing file
	h = be.AppendUint32(h, 0)
	h = be.AppendUint32(h, clusterBits)
	h = be.AppendUint64(h, uint64(size))
	h = be.AppendUint32(h, 0) // not encrypted
	h = be.AppendUint32(h, uint32(len(l1)/8))
	h = be.AppendUint64(h, uint64(l1At))
	h = be.AppendUint64(h, uint64(tableAt))
	h = be.AppendUint32(h, uint32(tableClusters))
	h = be.AppendUint32(h, 0) // no snapshots
	h = be.AppendUint64(h, 0)
	h = be.AppendUint64(h, incompatZstd)
	h = be.AppendUint64(h, 0)
	h = be.AppendUint64(h, 0)
	h = be.AppendUint32(h, refcountOrder)
	h = be.AppendUint32(h, headerLen)
	h = append(h, typeZstd)
	return w.put(h, 0)
}

// refcounts writes how often each cluster is referred to, those of the counts themselves included.
func (w *writer) refcounts() (at, clusters int64, err error) {
	// Blocks of counts and the table of blocks are taken first; they must cover themselves.
	blocks, table := int64(0), int64(0)
	for {
		total := w.end/cluster + blocks + table
		b := (total + refEntries - 1) / refEntries
		t := (b*8 + cluster - 1) / cluster
		if b == blocks && t == table {
			break
		}
		blocks, table = b, t
	}
	at = w.take(table * cluster)
	first := w.take(blocks * cluster)
	var b, refs []byte
	for i := range blocks {
		b = binary.BigEndian.AppendUint64(b, uint64(first+i*cluster))
	}
	for _, n := range w.refs {
		refs = binary.BigEndian.AppendUint16(refs, n)
	}
	if err := w.put(refs, first); err != nil {
		return 0, 0, err
	}
	return at, table, w.put(b, at)
}

// put writes whole clusters: zeros follow what there is.
func (w *writer) put(b []byte, at int64) error {
	if pad := -len(b) & (cluster - 1); pad > 0 {
		b = append(b, make([]byte, pad)...)
	}
	_, err := w.out.WriteAt(b, at)
	return err
}

func empty(table []uint64) bool {
	for _, e := range table {
		if e != 0 {
			return false
		}
	}
	return true
}

var zeros [cluster]byte

func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// must stands where only wrong constants in this file could fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
