package qemu

import (
	"crypto/sha1"
	"crypto/sha256"

	"github.com/belljar/belljar/vm"
)

// replay computes the PCRs that a bank's extensions come to, from zeros.
func replay(all []vm.Extension, bank string) map[int][]byte {
	values := map[int][]byte{}
	for _, e := range all {
		if e.Bank != bank {
			continue
		}
		old := values[e.PCR]
		switch bank {
		case "sha1":
			if old == nil {
				old = make([]byte, sha1.Size)
			}
			sum := sha1.Sum(append(old, e.Digest...))
			values[e.PCR] = sum[:]
		case "sha256":
			if old == nil {
				old = make([]byte, sha256.Size)
			}
			sum := sha256.Sum256(append(old, e.Digest...))
			values[e.PCR] = sum[:]
		}
	}
	return values
}
