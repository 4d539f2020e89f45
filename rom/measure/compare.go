package measure

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// Observation is what was seen of a boot. What is nil was not looked at.
type Observation struct {
	Console []Event // what coreboot printed of its log, see ParseConsole
	Log     []Event // coreboot's event log, as it was read from memory
	// Heard is what the TPM was told to extend, in order: coreboot's events and behind them those of its payload, all without names.
	Heard []Event
	PCRs  PCRs // what the TPM holds
}

// Sources of what was seen.
const (
	SourceConsole = "console"
	SourceLog     = "event log"
	SourceTPM     = "TPM"
	SourcePCRs    = "PCRs"
)

// Difference is the first thing in which a source is not as predicted.
type Difference struct {
	Source string `json:"source"`
	Event  int    `json:"event,omitempty"` // its number in the source, from 1 on; 0 of a PCR
	PCR    int    `json:"pcr"`
	Name   string `json:"name,omitempty"` // of the event that was predicted, or of one that was not
	Want   Digest `json:"want,omitempty"` // nil: nothing was predicted
	Got    Digest `json:"got,omitempty"`  // nil: nothing was seen
	Text   string `json:"text"`           // a sentence
}

func (d Difference) String() string { return d.Source + ": " + d.Text }

// Compare holds what was seen of a boot against its prediction: of each source that was looked at, the first difference, in the
// order console, event log, TPM, PCRs. None means that the boot ran what the ROM's file holds.
//
// What an event is called is not compared: names changed between versions of coreboot, digests do not. Of the TPM, PCRs of which
// nothing is predicted do not count, nor what went into the others after the prediction's last event: the payload may measure too.
func Compare(p *Prediction, seen Observation) []Difference {
	want, heard := p.events(), p.theirs(seen.Heard)
	var all []Difference
	for _, log := range []struct {
		source string
		events []Event
	}{{SourceConsole, seen.Console}, {SourceLog, seen.Log}, {SourceTPM, heard[:min(len(heard), len(want))]}} {
		if log.events == nil {
			continue
		}
		if d := compareEvents(want, log.events); d != nil {
			d.Source = log.source
			all = append(all, *d)
		}
	}
	if len(heard) > len(want) {
		want = append(want, heard[len(want):]...)
	}
	if d := comparePCRs(Replay(p.Algorithm, want...), seen.PCRs); d != nil {
		all = append(all, *d)
	}
	return all
}

// theirs are the events of PCRs of which something is predicted; nil of nil.
func (p *Prediction) theirs(events []Event) []Event {
	return slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return p.PCRs[e.PCR] == nil })
}

// comparePCRs is the first PCR that does not hold what it should, nil if there is none or PCRs were not looked at.
func comparePCRs(want, got PCRs) *Difference {
	if got == nil {
		return nil
	}
	for _, n := range want.numbers() {
		if !bytes.Equal(want[n], got[n]) {
			d := &Difference{Source: SourcePCRs, PCR: n, Want: want[n], Got: got[n]}
			d.Text = fmt.Sprintf("PCR %d is %s, want %s", n, orNothing(d.Got), d.Want)
			return d
		}
	}
	return nil
}

// compareEvents is the first difference of two lists, nil if there is none.
func compareEvents(want, got []Event) *Difference {
	for i := range max(len(want), len(got)) {
		d := &Difference{Event: i + 1}
		switch {
		case i >= len(got):
			d.PCR, d.Name, d.Want = want[i].PCR, want[i].Name, want[i].Digest
			d.Text = fmt.Sprintf("event %d, %s, did not come; want %s into PCR %d", i+1, d.Name, d.Want, d.PCR)
		case i >= len(want):
			d.PCR, d.Name, d.Got = got[i].PCR, got[i].Name, got[i].Digest
			d.Text = fmt.Sprintf("event %d, %s, was not predicted: %s into PCR %d", i+1, d.Name, d.Got, d.PCR)
		case want[i].PCR != got[i].PCR:
			d.PCR, d.Name, d.Want, d.Got = want[i].PCR, want[i].Name, want[i].Digest, got[i].Digest
			d.Text = fmt.Sprintf("event %d, %s, went into PCR %d, want PCR %d", i+1, d.Name, got[i].PCR, d.PCR)
		case !bytes.Equal(want[i].Digest, got[i].Digest):
			d.PCR, d.Name, d.Want, d.Got = want[i].PCR, want[i].Name, want[i].Digest, got[i].Digest
			d.Text = fmt.Sprintf("event %d, %s, is %s, want %s", i+1, d.Name, d.Got, d.Want)
			if got[i].Name != "" && got[i].Name != want[i].Name {
				d.Text += fmt.Sprintf("; the boot calls it %s", got[i].Name)
			}
		default:
			continue
		}
		return d
	}
	return nil
}

func orNothing(d Digest) string {
	if d == nil {
		return "not there"
	}
	return d.String()
}

func (p PCRs) numbers() []int { return slices.Sorted(maps.Keys(p)) }
