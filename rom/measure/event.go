package measure

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strconv"
)

// Digest is what is extended into a PCR, or a PCR's value.
type Digest []byte

func (d Digest) String() string { return hex.EncodeToString(d) }

// MarshalText is the hexadecimal form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Event is one measurement: a digest, extended into a PCR.
type Event struct {
	PCR    int    `json:"pcr"`
	Digest Digest `json:"digest"`
	Name   string `json:"name"` // as the firmware's log calls it; empty of what a TPM was told: it hears digests alone
}

// Algorithm is a bank of a TPM, by the name that vboot and coreboot's log give it.
type Algorithm string

// The algorithms that coreboot can be built for. One build has one.
const (
	SHA1   Algorithm = "SHA1" // TPM 1.2
	SHA256 Algorithm = "SHA256"
	SHA384 Algorithm = "SHA384"
	SHA512 Algorithm = "SHA512"
)

var algorithms = map[Algorithm]func() hash.Hash{SHA1: sha1.New, SHA256: sha256.New, SHA384: sha512.New384, SHA512: sha512.New}

// PCRs are values by the PCRs' numbers.
type PCRs map[int]Digest

// MarshalJSON writes the numbers as JSON wants its keys, in their order.
func (p PCRs) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for _, n := range p.numbers() {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"`+strconv.Itoa(n)+`":"`+p[n].String()+`"`...)
	}
	return append(b, '}'), nil
}

// Replay is what events leave in PCRs that were reset: PCR := H(PCR || digest), from zeros on (TPM 2.0 Library, part 1, 17.2).
// A PCR without an event is not among them.
func Replay(alg Algorithm, events ...Event) PCRs {
	pcrs := PCRs{}
	for _, e := range events {
		h := algorithms[alg]()
		old := pcrs[e.PCR]
		if old == nil {
			old = make(Digest, h.Size())
		}
		h.Write(old)
		h.Write(e.Digest)
		pcrs[e.PCR] = h.Sum(nil)
	}
	return pcrs
}
