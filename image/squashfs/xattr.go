package squashfs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// noXattr is the index of an inode without extended attributes.
const noXattr = math.MaxUint32

// prefixes are the kinds of extended attributes that squashfs can hold, by number.
var prefixes = []string{"user.", "trusted.", "security."}

// xattrTable collects sets of extended attributes: inodes with the same ones share them.
type xattrTable struct {
	meta *metaWriter
	ids  []byte
	seen map[string]uint32
}

// add returns the number of a set.
func (t *xattrTable) add(set map[string]string, w *writer) (uint32, error) {
	if len(set) == 0 {
		return noXattr, nil
	}
	le := binary.LittleEndian
	var b []byte
	for _, full := range slices.Sorted(maps.Keys(set)) {
		kind := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(full, p) })
		if kind < 0 {
			return 0, fmt.Errorf("extended attribute %s: squashfs has %s only", full, strings.Join(prefixes, ", "))
		}
		name := strings.TrimPrefix(full, prefixes[kind])
		b = le.AppendUint16(b, uint16(kind))
		b = le.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = le.AppendUint32(b, uint32(len(set[full])))
		b = append(b, set[full]...)
	}
	if n, ok := t.seen[string(b)]; ok {
		return n, nil
	}
	if t.meta == nil {
		t.meta, t.seen = &metaWriter{zstd: w.zstd}, map[string]uint32{}
	}
	n := uint32(len(t.seen))
	t.seen[string(b)] = n
	t.ids = le.AppendUint64(t.ids, t.meta.at().packed())
	t.ids = le.AppendUint32(t.ids, uint32(len(set)))
	t.ids = le.AppendUint32(t.ids, uint32(len(b)))
	t.meta.write(b)
	return n, nil
}

// writeXattrs writes the attributes, then the list of sets, then where the two lie.
func (w *writer) writeXattrs() (uint64, error) {
	t := &w.xattrs
	if t.meta == nil {
		return noTable, nil
	}
	t.meta.flush()
	start := uint64(w.pos)
	if err := w.append(t.meta.out); err != nil {
		return 0, err
	}
	at, err := w.metadata(t.ids)
	if err != nil {
		return 0, err
	}
	head := binary.LittleEndian.AppendUint64(nil, start)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(t.seen)))
	head = binary.LittleEndian.AppendUint32(head, 0)
	return w.index(head, at)
}
