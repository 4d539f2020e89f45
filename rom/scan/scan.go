// Package scan finds patterns in a stream, a window at a time: a ROM of any size, or what comes out of its compression,
// is searched in the same memory.
//
// It refuses to know what is looked for.
package scan

import (
	"errors"
	"io"
	"iter"
	"regexp"
)

// window is how many places are searched at once.
const window = 64 << 10

// Hit is a place where a pattern matches.
type Hit struct {
	Offset int64
	Text   []byte   // the whole match
	Groups [][]byte // the pattern's groups
}

// All are the places in r where the pattern matches, in the order of their offsets; of those that overlap, the first.
// longest is the greatest length of a match, in bytes: a longer one may be missed. The first error of reading ends the
// sequence.
func All(r io.Reader, pattern *regexp.Regexp, longest int) iter.Seq2[Hit, error] {
	return func(yield func(Hit, error) bool) {
		buf := make([]byte, 0, window+longest)
		base, next := int64(0), int64(0) // of the buffer, and of where the next match may begin
		for {
			n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if err != nil && !last {
				yield(Hit{}, err)
				return
			}
			places := window // what begins beyond them is found in the next window, whole
			if last {
				places = len(buf)
			}
			for from := int(max(next-base, 0)); from < places; {
				at := pattern.FindSubmatchIndex(buf[from:])
				if at == nil || from+at[0] >= places {
					break
				}
				if !yield(hit(buf[from:], at, base+int64(from)), nil) {
					return
				}
				from += max(at[1], at[0]+1)
				next = base + int64(from)
			}
			if last {
				return
			}
			buf = buf[:copy(buf, buf[window:])]
			base += window
		}
	}
}

// First is the first place where the pattern matches; ok is false where there is none.
func First(r io.Reader, pattern *regexp.Regexp, longest int) (h Hit, ok bool, err error) {
	for h, err := range All(r, pattern, longest) {
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
