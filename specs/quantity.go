package specs

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DurationPattern is the syntax of a Duration: Go's (time.ParseDuration), from hours to milliseconds, never negative.
const DurationPattern = `^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$`

// SizePattern is the syntax of a Size: a whole number and one of the units of IEC 80000-13.
const SizePattern = `^(0|[1-9][0-9]*)(B|KiB|MiB|GiB|TiB)$`

var (
	durationSyntax = regexp.MustCompile(DurationPattern)
	sizeSyntax     = regexp.MustCompile(SizePattern)
)

// Duration is a length of time, written as in Go: "90s", "5m", "1h30m".
type Duration time.Duration

// String is the shortest form that reads back as d: "5m", not "5m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes d for YAML and JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads d from YAML and JSON; a bare number is refused, since nobody can tell its unit.
func (d *Duration) UnmarshalText(text []byte) error {
	if !durationSyntax.Match(text) {
		return fmt.Errorf(`%q is not a duration: write it like "90s" or "5m"`, text)
	}
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is too long a duration", text)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes, written with a binary unit: "512MiB", "2GiB".
type Size int64

// The units of a Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// String is s in the greatest unit that divides it: exact, never rounded.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s%u.bytes == 0 && (s != 0 || u.bytes == 1) {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	panic("unreachable: every number divides by 1")
}

// MarshalText writes s for YAML and JSON.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads s from YAML and JSON. Decimal units (MB) are refused: they are too easily taken for binary ones.
func (s *Size) UnmarshalText(text []byte) error {
	m := sizeSyntax.FindSubmatch(text)
	if m == nil {
		return fmt.Errorf(`%q is not a size: write a whole number with B, KiB, MiB, GiB or TiB, like "512MiB"`, text)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	for _, u := range sizeUnits {
		if u.name != string(m[2]) {
			continue
		}
		if err != nil || n > math.MaxInt64/int64(u.bytes) {
			return fmt.Errorf("%q is too great a size", text)
		}
		*s = Size(n) * u.bytes
	}
	return nil
}
