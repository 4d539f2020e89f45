package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The archive that wraps a .deb is the common ar format (ar(5)): an eight-byte magic, then members, each a header of
// sixty bytes in ASCII and its data, padded to an even length.
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arTrailer    = "`\n"
)

// arMember is one member's header. Owner and date say nothing in a .deb and are not kept.
type arMember struct {
	Name string
	Size int64
}

// arReader reads an ar archive as a stream: next moves to a member, Read reads its data.
type arReader struct {
	r    io.Reader
	left int64 // of the current member's data
	pad  int64 // 1 if a padding byte follows it
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if n, err := io.ReadFull(r, magic); err != nil {
		if isEOF(err) && n == 0 {
			return nil, errors.New("the file is empty, want an ar archive")
		}
		return nil, fmt.Errorf("ar magic: %w", noEOF(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("it begins with %q, want the ar magic %q", magic, arMagic)
	}
	return &arReader{r: r}, nil
}

// next skips the rest of the current member and returns the following header; io.EOF after the last one.
func (a *arReader) next() (arMember, error) {
	if n, err := io.CopyN(io.Discard, a.r, a.left+a.pad); err != nil {
		// ar(1) pads the last member too, but a missing last padding byte is tolerated, as dpkg does.
		if !isEOF(err) || n < a.left {
			return arMember{}, noEOF(err)
		}
	}
	a.left, a.pad = 0, 0
	var h [arHeaderSize]byte
	if _, err := io.ReadFull(a.r, h[:]); err == io.EOF {
		return arMember{}, io.EOF
	} else if err != nil {
		return arMember{}, fmt.Errorf("ar header: %w", noEOF(err))
	}
	m, err := parseArHeader(h[:])
	if err != nil {
		return arMember{}, err
	}
	a.left, a.pad = m.Size, m.Size&1
	return m, nil
}

// Read reads the current member's data. A member that ends early is io.ErrUnexpectedEOF.
func (a *arReader) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.r.Read(p)
	a.left -= int64(n)
	if err == io.EOF && a.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// parseArHeader reads name[16] mtime[12] uid[6] gid[6] mode[8] size[10] end[2] (ar(5)). GNU and BSD long names
// ("/123", "#1/20") never occur in a .deb: its member names are short.
func parseArHeader(h []byte) (arMember, error) {
	if string(h[58:60]) != arTrailer {
		return arMember{}, fmt.Errorf("ar header ends in %q, want %q: the archive is damaged", h[58:60], arTrailer)
	}
	name := string(bytes.TrimRight(h[:16], " "))
	name = strings.TrimSuffix(name, "/")
	if name == "" || strings.ContainsAny(name, "/\x00\n") || strings.HasPrefix(name, "#1") {
		return arMember{}, fmt.Errorf("ar header has the name %q, want a short plain one", h[:16])
	}
	digits := string(bytes.TrimRight(h[48:58], " "))
	size, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return arMember{}, fmt.Errorf("ar header of %s has the size %q, want decimal digits", name, h[48:58])
	}
	return arMember{Name: name, Size: int64(size)}, nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// noEOF turns an end of file where data must follow into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
