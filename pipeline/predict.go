package pipeline

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/measure"
	"github.com/belljar/belljar/vm/smoke"
)

// reference is the ROM that the others should be; one without a path stands for each itself.
func (o SmokeOptions) reference() (romFile, error) {
	if o.Reference == "" {
		return romFile{}, nil
	}
	if o.Set.TPM == "" {
		return romFile{}, fault.New(fault.Usage, "smoke", "a reference is held against what a TPM hears").WithRemedy("add --tpm 2.0")
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

// predicted are steps that hold what a boot measures against what a ROM's file lets expect, where that can be told: of a
// coreboot that was built to measure, on a machine with a TPM. It measures each part before it starts it, so that all is
// there when its payload starts; what the payload measures comes behind. Where it cannot be told of a reference, that is
// an error: it was asked for.
func (h *house) predicted(r romFile, t smoke.Test) ([]smoke.Step, error) {
	if t.TPM == "" || r.Image == nil {
		return nil, nil
	}
	p, err := measure.Predict(r.Image)
	switch {
	case err != nil && r.named:
		return nil, fault.New(fault.Input, "reference "+r.path, "%w", err)
	case err != nil:
		h.note(PhaseSmoke, fmt.Sprintf("%s: no prediction of what it measures: %v", filepath.Base(r.path), err))
		return nil, nil
	}
	logs := map[int]*smoke.EventLog{}
	var steps []smoke.Step
	for _, e := range p.Events {
		log := logs[e.PCR]
		if log == nil {
			log = &smoke.EventLog{Bank: strings.ToLower(string(p.Algorithm)), Index: e.PCR, Prefix: true}
			logs[e.PCR] = log
			steps = append(steps, smoke.Step{EventLog: log, Note: "it measured what " + filepath.Base(r.path) + " holds"})
		}
		log.Events = append(log.Events, smoke.Event{Name: e.Name, Digest: e.Digest})
	}
	return steps, nil
}
