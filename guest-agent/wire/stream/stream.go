// Package stream is the form in which a guest hands files over on a raw disk: written once from the disk's first byte,
// read once by the host, checked frame by frame on the way.
//
// It knows frames and members, and says of damage which frame, which member and which offset it hit. It refuses to know
// which files those are, and makes no promise against a guest that lies: the checksums tell transport errors (a block
// that was not written, written twice or in the wrong place, a stream that was cut off). What a file is called by
// afterwards is the SHA-256 that the host computes of what it received, natively; a guest's own SHA-256 would be made
// by the same guest from the same bytes, and costs under emulation more than all the rest.
//
// # Format
//
// A stream is a sequence of frames without gaps. Integers are little-endian. A frame is
//
//	 0  8  checksum of all that follows in the frame
//	 8  4  "BJF1"
//	12  1  kind
//	13  1  how the checksum was computed: 1 XXH64, 2 XXH32, each of seed 0
//	14  2  zero
//	16  8  number of the frame, from 0
//	24  8  at: where in its member's content a data frame or a hole begins; of a member's end, how long the content was
//	32  8  length of the payload; of a hole, how many zeros it stands for
//	40     payload, none of a hole
//
// and comes as one of these, a stream being start (member (data | hole)* member-end)* end:
//
//	start       1  payload: "belljar\n", version (4 bytes)
//	member      2  payload: type (1 byte), 3 zeros, mode (4), size (8; all ones: told at the member's end),
//	               length of the path (2), path, length of the link's target (2), target
//	data        3  payload: content
//	hole        4  content of zeros, of which nothing is written
//	member-end  5
//	end         6  payload: members (8), bytes of content (8), digest (8)
//
// The digest is a chain over all frames before the end: XXH64 of the digest before, first 0, and the frame's checksum (8
// bytes each). A frame has at most MaxPayload bytes of payload.
package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Version is the format's.
const Version = 1

// MaxPayload is the greatest length of a frame's payload. Both sides hold one frame in memory.
const MaxPayload = 1<<20 - headSize

// MaxContent is the most that a stream's members may hold in all, in bytes. Holes cost nothing on the disk, and everything
// where they are unpacked.
const MaxContent = 64 << 30

const (
	headSize = 40
	magic    = "BJF1"
	hello    = "belljar\n"
	// maxName bounds paths and link targets: PATH_MAX (linux/limits.h).
	maxName = 4096
	// memberSize is a member frame's payload without its two names.
	memberSize = 20
)

type kind byte

const (
	kindStart kind = 1 + iota
	kindMember
	kindData
	kindHole
	kindMemberEnd
	kindEnd
)

func (k kind) String() string {
	names := [...]string{"of no kind", "start", "member", "data", "hole", "member-end", "end"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Type is a member's.
type Type byte

// The types. A hard link's Link is the path of a member before it.
const (
	File Type = 1 + iota
	Dir
	Symlink
	HardLink
)

// Unknown is the size of a member that is told at its end only.
const Unknown = -1

// Member is what is told of a file before its content.
type Member struct {
	Path string // relative, slash-separated
	Type Type
	Mode uint32 // permission bits
	Size int64  // of a file's content, or Unknown; else 0
	Link string // target of a Symlink or HardLink
}

// Total is what a stream came to. Writer and reader count it, each for itself.
type Total struct {
	Size    int64 // bytes on the disk
	Members int64
	Content int64  // bytes of content, holes among them
	Digest  uint64 // of all frames before the end
}

// check says what is wrong with a member.
func (m *Member) check() error {
	switch {
	case m.Type < File || m.Type > HardLink:
		return fmt.Errorf("type %d is none", m.Type)
	case !fs.ValidPath(m.Path) || m.Path == "." || strings.ContainsAny(m.Path, "\x00\n\r"):
		return errors.New("its path is not plain and relative")
	case len(m.Path) > maxName || len(m.Link) > maxName:
		return fmt.Errorf("a name has more than %d bytes", maxName)
	case m.Mode&^0o7777 != 0:
		return fmt.Errorf("mode %o has more than permission bits", m.Mode)
	case m.Type == File && m.Size < Unknown, m.Type != File && m.Size != 0:
		return fmt.Errorf("a size of %d bytes", m.Size)
	case (m.Type == Symlink || m.Type == HardLink) != (m.Link != ""):
		return errors.New("links have a target, and nothing else has")
	case m.Type == HardLink && !fs.ValidPath(m.Link), strings.Contains(m.Link, "\x00"):
		return fmt.Errorf("target %q cannot be one", m.Link)
	}
	return nil
}

// marshal appends the payload of a member's frame.
func (m *Member) marshal(b []byte) []byte {
	b = append(b, byte(m.Type), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, m.Mode)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Size))
	for _, name := range []string{m.Path, m.Link} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
	}
	return b
}

func (m *Member) unmarshal(b []byte) error {
	if len(b) < memberSize {
		return fmt.Errorf("a member takes %d bytes at least, there are %d", memberSize, len(b))
	}
	if b[1]|b[2]|b[3] != 0 {
		return errors.New("a byte that is zero is not")
	}
	m.Type, m.Mode, m.Size = Type(b[0]), binary.LittleEndian.Uint32(b[4:]), int64(binary.LittleEndian.Uint64(b[8:]))
	b = b[16:]
	for _, name := range []*string{&m.Path, &m.Link} {
		if len(b) < 2 {
			return errors.New("a name is cut off")
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return errors.New("a name is cut off")
		}
		*name, b = string(b[:n]), b[n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes follow its names", len(b))
	}
	return m.check()
}

// marshal appends the payload of the end's frame.
func (t *Total) marshal(b []byte) []byte {
	for _, v := range []uint64{uint64(t.Members), uint64(t.Content), t.Digest} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
