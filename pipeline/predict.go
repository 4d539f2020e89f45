package pipeline

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/measure"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// reference is the ROM that the others should be; one without a path stands for each itself.
func (o SmokeOptions) reference() (romFile, error) {
	if o.Reference == "" {
		return romFile{}, nil
	}
	r, err := readROM(o.Reference)
	r.named = true
	return r, err
}

func (r romFile) or(other romFile) romFile {
	if r.path == "" {
		return other
	}
	return r
}

// predicted is the step that holds what a boot measures against what a ROM's file lets expect, where that can be told: of a
// coreboot that was built to measure, on a machine with a TPM. It measures each part before it starts it, so that all is
// there when its payload starts; what the payload measures comes behind. Where it cannot be told of a reference, that is
// an error: it was asked for.
func (h *house) predicted(r romFile, t smoke.Test) ([]smoke.Step, error) {
	if r.Image == nil {
		return nil, nil
	}
	name := filepath.Base(r.path)
	p, err := measure.Predict(r.Image)
	switch {
	case err != nil && r.named:
		return nil, fault.New(fault.Input, "reference "+r.path, "%w", err)
	case err != nil && t.TPM == "":
		return nil, nil
	case err != nil:
		h.note(PhaseSmoke, fmt.Sprintf("%s: no prediction of what it measures: %v", name, err))
		return nil, nil
	case t.TPM == "":
		h.note(PhaseSmoke, fmt.Sprintf("%s measures its boot, and the machine of the test %s has no TPM: what it measures is not looked at", name, t.Name))
		return nil, nil
	}
	j := predictionJudge{Prediction: p, rom: name, tpm: t.TPM}
	return []smoke.Step{{
		Judge: &smoke.Judge{Name: "measured boot", Bank: j.bank(), Of: j.of},
		Note:  "console, TPM and PCRs have what " + name + " holds",
	}}, nil
}

// predictionJudge judges a boot by what a ROM's file lets expect of it.
type predictionJudge struct {
	*measure.Prediction
	rom string // its name, for people
	tpm vm.TPM // that the machine has
}

// bank is where the ROM measures into; a TPM 1.2 has but one.
func (j predictionJudge) bank() string {
	if j.tpm == vm.TPM12 {
		return "sha1"
	}
	return strings.ToLower(string(j.Algorithm))
}

// of is a smoke.Judge's.
func (j predictionJudge) of(seen smoke.MeasuredBoot) (saw, wrong string, err error) {
	switch {
	case j.tpm == vm.TPM12 && j.Algorithm != measure.SHA1:
		return "", fmt.Sprintf("nothing can be measured: %s is built for a TPM 2.0, and the machine has a TPM %s", j.rom, j.tpm), nil
	case seen.PCRs == nil:
		return "", fmt.Sprintf("nothing was measured: %v", vm.ErrTPMNotStarted), nil
	}
	is := measure.Observation{PCRs: measure.PCRs{}, Heard: []measure.Event{}}
	if is.Console, err = measure.ParseConsole(seen.Console); err != nil {
		return "", "", fault.New(fault.Host, "read console", "%w", err)
	}
	for n, value := range seen.PCRs {
		is.PCRs[n] = value
	}
	for _, e := range seen.Extensions {
		if e.Bank == j.bank() {
			is.Heard = append(is.Heard, measure.Event{PCR: e.PCR, Digest: e.Digest})
		}
	}
	if all := measure.Compare(j.Prediction, is); len(all) > 0 {
		return "", fmt.Sprintf("it measured what %s does not hold: %s", j.rom, differences(all)), nil
	}
	saw = fmt.Sprintf("%d measurements (%s), each as expected", len(j.Events), j.bank())
	if is.Console == nil {
		saw += "; the console does not tell them"
	}
	return saw, "", nil
}

// differences tells what differs, and once what several sources agree upon.
func differences(all []measure.Difference) string {
	var told []string
	for i := 0; i < len(all); {
		sources := []string{all[i].Source}
		text := all[i].Text
		for i++; i < len(all) && all[i].Text == text; i++ {
			sources = append(sources, all[i].Source)
		}
		told = append(told, strings.Join(sources, " and ")+": "+text)
	}
	return strings.Join(told, "; ")
}

// useful says that a reference was named, and that no trial has a TPM whose PCRs could be held against it.
func (o SmokeOptions) useful(trials []trial) error {
	if o.Reference == "" || slices.ContainsFunc(trials, func(t trial) bool { return t.test.TPM != "" }) {
		return nil
	}
	return fault.New(fault.Usage, "smoke", "a reference is held against what a TPM hears").WithRemedy("add --tpm 2.0")
}
