package store

import (
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/belljar/belljar/fault"
)

// Digest is the SHA-256 of an object, in 64 lower-case hexadecimal digits. The empty Digest is no object's.
type Digest string

const digestLen = 64

// ParseDigest accepts exactly the form that Digest holds; no prefix, no upper case: one object, one spelling.
func ParseDigest(s string) (Digest, error) {
	if len(s) != digestLen {
		return "", fault.New(fault.Input, "digest",
			"%q has %d characters; expected the 64 lower-case hexadecimal digits of a SHA-256", s, len(s))
	}
	for i, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fault.New(fault.Input, "digest", "%q: character %d is %q; expected a digit or a lower-case a-f",
				s, i+1, c)
		}
	}
	return Digest(s), nil
}

func (d Digest) valid() error {
	_, err := ParseDigest(string(d))
	return err
}

// Short is enough of the digest for people to tell objects apart.
func (d Digest) Short() string {
	if len(d) < 12 {
		return string(d)
	}
	return string(d[:12])
}

func sumOf(h hash.Hash) Digest { return Digest(hex.EncodeToString(h.Sum(nil))) }

// Mismatch says what was asked for and what came. Want is empty and WantSize is -1 where anything would have done;
// Got is empty where reading stopped early because there was more than WantSize.
type Mismatch struct {
	Want, Got         Digest
	WantSize, GotSize int64
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("expected %s, got %s", describe(m.Want, m.WantSize, ""), describe(m.Got, m.GotSize, m.more()))
}

func (m *Mismatch) more() string {
	if m.Got == "" {
		return "at least "
	}
	return ""
}

func describe(d Digest, size int64, more string) string {
	switch {
	case d == "" && size < 0:
		return "anything"
	case d == "":
		return fmt.Sprintf("%s%d bytes", more, size)
	case size < 0:
		return "sha256 " + string(d)
	}
	return fmt.Sprintf("sha256 %s (%s%d bytes)", d, more, size)
}

func (m *Mismatch) ok() bool {
	return (m.Want == "" || m.Want == m.Got) && (m.WantSize < 0 || m.WantSize == m.GotSize)
}
