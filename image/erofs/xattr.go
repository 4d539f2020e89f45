package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Extended attributes follow their inode: struct erofs_xattr_ibody_header, then the numbers of those that lie in an
// area shared by several inodes, then the inode's own, each padded to 4 bytes. Write makes no shared ones: in a root
// of Debian a handful of files have any.
const (
	xattrHeader = 12
	xattrEntry  = 4 // struct erofs_xattr_entry, before the name
)

// xattrPrefixes are the beginnings of names that are stored as a number (EROFS_XATTR_INDEX_*). A POSIX ACL's name is
// nothing but its prefix.
var xattrPrefixes = []struct {
	index  uint8
	prefix string
	whole  bool
}{
	{1, "user.", false},
	{2, "system.posix_acl_access", true},
	{3, "system.posix_acl_default", true},
	{4, "trusted.", false},
	{6, "security.", false},
}

// encodeXattrs makes what follows the inode, in the order of the names.
func encodeXattrs(xattrs map[string]string) ([]byte, error) {
	if len(xattrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeader)
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		index, suffix, err := splitXattr(name)
		if err != nil {
			return nil, err
		}
		value := xattrs[name]
		if len(value) > math.MaxUint16 {
			return nil, fmt.Errorf("extended attribute %s has %d bytes, want at most %d",
				name, len(value), math.MaxUint16)
		}
		b = append(b, uint8(len(suffix)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, suffix...), value...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	if most := xattrHeader + 4*(math.MaxUint16-1); len(b) > most { // i_xattr_icount has 16 bits
		return nil, fmt.Errorf("%d bytes of extended attributes, want at most %d", len(b), most)
	}
	return b, nil
}

func splitXattr(name string) (index uint8, suffix string, err error) {
	for _, p := range xattrPrefixes {
		rest, ok := strings.CutPrefix(name, p.prefix)
		if ok && p.whole == (rest == "") && len(rest) <= maxName && !strings.Contains(rest, "\x00") {
			return p.index, rest, nil
		}
	}
	return 0, "", fmt.Errorf("extended attribute %q: EROFS holds user.*, trusted.*, security.* and POSIX ACLs, "+
		"with names of at most %d bytes", name, maxName)
}

var errXattr = errors.New("extended attributes are cut off")

// decodeXattrs reads what follows an inode into out. Shared attributes come from shared, by number.
func decodeXattrs(b []byte, out map[string]string, shared func(id uint32) (name, value string, err error)) error {
	ids := int(b[4]) // erofs_xattr_ibody_header.h_shared_count
	if b = b[xattrHeader:]; len(b) < 4*ids {
		return errXattr
	}
	for ; ids > 0; ids-- {
		name, value, err := shared(binary.LittleEndian.Uint32(b))
		if err != nil {
			return err
		}
		out[name] = value
		b = b[4:]
	}
	for len(b) >= xattrEntry {
		size := xattrLen(b)
		if size > len(b) {
			return errXattr
		}
		name, value, err := parseXattr(b[:size])
		if err != nil {
			return err
		}
		out[name] = value
		b = b[size:]
	}
	return nil
}

// xattrLen is the size, with its padding, of the entry that begins with these four bytes.
func xattrLen(b []byte) int {
	return (xattrEntry + int(b[0]) + int(binary.LittleEndian.Uint16(b[2:])) + 3) &^ 3
}

// parseXattr reads one entry from exactly xattrLen bytes.
func parseXattr(b []byte) (name, value string, err error) {
	end := xattrEntry + int(b[0])
	suffix := string(b[xattrEntry:end])
	value = string(b[end : end+int(binary.LittleEndian.Uint16(b[2:]))])
	for _, p := range xattrPrefixes {
		if p.index == b[1] && p.whole == (suffix == "") {
			return p.prefix + suffix, value, nil
		}
	}
	return "", "", fmt.Errorf("extended attribute %q has the unknown prefix %d", suffix, b[1])
}
