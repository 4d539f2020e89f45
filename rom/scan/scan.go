// Package scan finds patterns in a file, a window at a time: a ROM of any size is searched in the same memory.
//
// It refuses to know what is looked for.
package scan

import (
	"errors"
	"io"
	"iter"
	"regexp"
)

// window is how many bytes of places are searched at once.
const window = 64 << 10

// Hit is a place where a pattern matches.
type Hit struct {
	Offset int64
	Text   []byte   // the whole match
	Groups [][]byte // the pattern's groups
}

// All are the places in the first size bytes of r where the pattern matches, in the order of their offsets; of those
// that overlap, the first. longest is the greatest length of a match, in bytes: a longer one may be missed. The first
// error of reading ends the sequence.
func All(r io.ReaderAt, size int64, pattern *regexp.Regexp, longest int) iter.Seq2[Hit, error] {
	return func(yield func(Hit, error) bool) {
		buf := make([]byte, window+longest)
		next := int64(0) // where the next match may begin
		for base := int64(0); base < size; base += window {
			part := buf[:min(int64(len(buf)), size-base)]
			if n, err := r.ReadAt(part, base); n < len(part) {
				yield(Hit{}, short(err))
				return
			}
			skip := max(next-base, 0)
			for skip < window && skip < int64(len(part)) {
				at := pattern.FindSubmatchIndex(part[skip:])
				if at == nil || skip+int64(at[0]) >= window {
					break // what begins beyond the window is found in the next one, whole
				}
				if !yield(hit(part[skip:], at, base+skip), nil) {
					return
				}
				skip += int64(max(at[1], at[0]+1))
				next = base + skip
			}
		}
	}
}

// First is the first place where the pattern matches; ok is false where there is none.
func First(r io.ReaderAt, size int64, pattern *regexp.Regexp, longest int) (h Hit, ok bool, err error) {
	for h, err := range All(r, size, pattern, longest) {
		return h, err == nil, err
	}
	return Hit{}, false, nil
}

func hit(part []byte, at []int, base int64) Hit {
	h := Hit{Offset: base + int64(at[0])}
	for i := 0; i < len(at); i += 2 {
		var group []byte
		if at[i] >= 0 {
			group = append(group, part[at[i]:at[i+1]]...)
		}
		h.Groups = append(h.Groups, group)
	}
	h.Text, h.Groups = h.Groups[0], h.Groups[1:]
	return h
}

// short is the error of a read that came short: a file may have shrunk since its size was asked for.
func short(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
