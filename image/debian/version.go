package debian

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Version is a package's version: [epoch:]upstream[-revision] (deb-version(7)).
type Version struct {
	Epoch    int
	Upstream string
	Revision string // "" where there is none, which sorts as "0"
}

// ParseVersion reads a version as dpkg does, save that its warnings are errors here.
func ParseVersion(s string) (Version, error) {
	var v Version
	rest := s
	if epoch, after, ok := strings.Cut(s, ":"); ok {
		n, err := strconv.ParseUint(epoch, 10, 32)
		if err != nil || n > math.MaxInt32 {
			return v, fmt.Errorf("version %q: its epoch is %q, want a number", s, epoch)
		}
		v.Epoch, rest = int(n), after
	}
	v.Upstream = rest
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		v.Upstream, v.Revision = rest[:i], rest[i+1:]
		if v.Revision == "" {
			return v, fmt.Errorf("version %q: nothing follows its last '-', want a revision", s)
		}
	}
	if v.Upstream == "" {
		return v, fmt.Errorf("version %q: it has no upstream part", s)
	}
	if !isDigit(v.Upstream[0]) {
		return v, fmt.Errorf("version %q: it begins with %q, want a digit", s, v.Upstream[0])
	}
	if i := strings.IndexFunc(v.Upstream, alienTo(".+-~:")); i >= 0 {
		return v, fmt.Errorf("version %q: %q does not belong in one, want letters, digits and . + - ~",
			s, v.Upstream[i:])
	}
	if i := strings.IndexFunc(v.Revision, alienTo(".+~")); i >= 0 {
		return v, fmt.Errorf("version %q: %q does not belong in its revision, want letters, digits and . + ~",
			s, v.Revision[i:])
	}
	return v, nil
}

func (v Version) String() string {
	s := v.Upstream
	if v.Epoch != 0 || strings.Contains(s, ":") {
		s = strconv.Itoa(v.Epoch) + ":" + s
	}
	if v.Revision != "" {
		s += "-" + v.Revision
	}
	return s
}

// Compare is negative where v is earlier than w, positive where it is later, 0 where they are equal in rank.
// Equal rank is not equal text: 1.0 and 1.00-0 rank the same.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(v.Epoch, w.Epoch); c != 0 {
		return c
	}
	if c := compareParts(v.Upstream, w.Upstream); c != 0 {
		return c
	}
	return compareParts(v.Revision, w.Revision)
}

// CompareVersions compares two versions as text.
func CompareVersions(a, b string) (int, error) {
	v, err := ParseVersion(a)
	if err != nil {
		return 0, err
	}
	w, err := ParseVersion(b)
	if err != nil {
		return 0, err
	}
	return v.Compare(w), nil
}

// compareParts is deb-version(7)'s sorting algorithm: by turns a run of non-digits, compared by rank (a tilde before
// the end, the end before letters, letters before all else), and a run of digits, compared as numbers.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			if c := cmp.Compare(rank(a), rank(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var x, y string
		x, a = digits(a)
		y, b = digits(b)
		if c := cmp.Compare(len(x), len(y)); c != 0 {
			return c
		}
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// rank orders the first character of s; the end of the string and a digit are both 0.
func rank(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isAlnum(rune(s[0])):
		return int(s[0])
	}
	return int(s[0]) + 256
}

// digits cuts the leading number off s, without its leading zeros: any length, so no overflow.
func digits(s string) (number, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// alienTo tells the characters that are neither letters nor digits nor among others.
func alienTo(others string) func(rune) bool {
	return func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune(others, r) }
}

func isAlnum(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
