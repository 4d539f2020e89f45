package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/belljar/belljar/vm"
)

// pcrCount is how many PCRs a PC's TPM has (TCG PC Client Platform TPM Profile, 4.6).
const pcrCount = 24

// banks are the hash algorithms by the names that people give their banks (TPM 2.0 Library part 2, TPM_ALG_ID).
var banks = map[string]tpm2.TPMAlgID{
	"sha1": tpm2.TPMAlgSHA1, "sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512,
}

func bankName(alg uint16) string {
	for name, a := range banks {
		if uint16(a) == alg {
			return name
		}
	}
	return fmt.Sprintf("0x%04x", alg)
}

// digestSizes are those of the banks, in bytes.
var digestSizes = map[uint16]int{0x0004: 20, 0x000b: 32, 0x000c: 48, 0x000d: 64}

// PCRs reads all PCRs of a bank.
func (t *TPM) PCRs(ctx context.Context, bank string) (map[int][]byte, error) {
	if t.version == vm.TPM12 {
		if bank != "sha1" {
			return nil, fmt.Errorf("a TPM 1.2 has no %s PCRs, only sha1 ones", bank)
		}
		return t.pcrs12(ctx)
	}
	alg, ok := banks[bank]
	if !ok {
		return nil, fmt.Errorf("there is no bank %q: want sha1, sha256, sha384 or sha512", bank)
	}
	values := map[int][]byte{}
	for len(values) < pcrCount {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := t.read20(alg, values); err != nil {
			return nil, fmt.Errorf("read %s PCRs: %w", bank, err)
		}
	}
	return values, nil
}

// read20 reads PCRs that are not there yet: a TPM 2.0 gives eight at a time.
func (t *TPM) read20(alg tpm2.TPMAlgID, values map[int][]byte) error {
	var missing []uint
	for i := range uint(pcrCount) {
		if values[int(i)] == nil {
			missing = append(missing, i)
		}
	}
	r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: alg, PCRSelect: tpm2.PCClientCompatible.PCRs(missing...)},
	}}}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCInitialize):
		return vm.ErrTPMNotStarted
	case err != nil:
		return err
	case len(r.PCRSelectionOut.PCRSelections) != 1 || len(r.PCRValues.Digests) == 0:
		return errors.New("the TPM has no such bank")
	}
	next := r.PCRValues.Digests
	for i := range pcrCount {
		if sel := r.PCRSelectionOut.PCRSelections[0].PCRSelect; i/8 < len(sel) && sel[i/8]>>(i%8)&1 == 1 && len(next) > 0 {
			values[i], next = slices.Clone(next[0].Buffer), next[1:]
		}
	}
	return nil
}

// Of a TPM 1.2: TPM Main Specification part 2 (tags, results) and part 3 (TPM_PCRRead, TPM_Extend).
const (
	tag12Command   = 0x00c1
	ord12Extend    = 0x14
	ord12PCRRead   = 0x15
	err12PostInit  = 0x26 // TPM_INVALID_POSTINIT: TPM_Startup has not come
	digest12Size   = 20
	pcrRead12Size  = headSize + 4
	extend12Length = headSize + 4 + digest12Size
)

func (t *TPM) pcrs12(ctx context.Context) (map[int][]byte, error) {
	values := map[int][]byte{}
	for i := range pcrCount {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		command := binary.BigEndian.AppendUint16(nil, tag12Command)
		command = binary.BigEndian.AppendUint32(command, pcrRead12Size)
		command = binary.BigEndian.AppendUint32(command, ord12PCRRead)
		command = binary.BigEndian.AppendUint32(command, uint32(i))
		answer, err := t.Send(command)
		switch {
		case err != nil:
			return nil, err
		case code(answer) == err12PostInit:
			return nil, vm.ErrTPMNotStarted
		case code(answer) != 0 || len(answer) != headSize+digest12Size:
			return nil, fmt.Errorf("read PCR %d: the TPM answers %#x", i, code(answer))
		}
		values[i] = answer[headSize:]
	}
	return values, nil
}

// Extensions are what was extended since the TPM was last started.
func (t *TPM) Extensions() []vm.Extension {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.extended)
}

// Of a TPM 2.0: TPM 2.0 Library part 2 (tags, codes) and part 3, 22.2 (TPM2_PCR_Extend).
const (
	tag20Sessions = 0x8002
	cc20Extend    = 0x182
)

// extensions are those that a command makes; none of any other command, and of one that is cut short. TPM2_PCR_Event, which
// hashes in the TPM, is not among them: PC firmware hashes itself.
func extensions(command []byte) []vm.Extension {
	if len(command) < headSize+4 {
		return nil
	}
	pcr := int(binary.BigEndian.Uint32(command[headSize:]))
	switch tag := binary.BigEndian.Uint16(command); {
	case tag == tag12Command && code(command) == ord12Extend && len(command) >= extend12Length:
		digest := command[headSize+4:][:digest12Size]
		return []vm.Extension{{PCR: pcr, Bank: "sha1", Digest: slices.Clone(digest)}}
	case tag == tag20Sessions && code(command) == cc20Extend:
		return extensions20(pcr, command[headSize+4:])
	}
	return nil
}

// extensions20 reads what stands behind the PCR's number: the authorisations with their length, and a counted list of
// digests, each with its algorithm.
func extensions20(pcr int, rest []byte) []vm.Extension {
	if len(rest) < 4 {
		return nil
	}
	auth := int64(binary.BigEndian.Uint32(rest))
	if rest = rest[4:]; auth+4 > int64(len(rest)) {
		return nil
	}
	rest = rest[auth:]
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	var all []vm.Extension
	for range count {
		if len(rest) < 2 {
			return all
		}
		alg := binary.BigEndian.Uint16(rest)
		size, known := digestSizes[alg]
		if rest = rest[2:]; !known || len(rest) < size {
			return all
		}
		all = append(all, vm.Extension{PCR: pcr, Bank: bankName(alg), Digest: slices.Clone(rest[:size])})
		rest = rest[size:]
	}
	return all
}
