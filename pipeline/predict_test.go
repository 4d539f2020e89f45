package pipeline

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/rom/measure"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// The prediction is one step, of a test with a TPM alone.
func TestPredicted(t *testing.T) {
	r, err := readROM(romFiles(t)("coreboot.rom"))
	if err != nil {
		t.Fatal(err)
	}
	test, err := (Hardware{TPM: "2.0"}).apply(smokeTest(toySmoke, "", 1))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := (&house{}).predicted(r, test)
	if err != nil || len(steps) != 1 || steps[0].Judge == nil || steps[0].Judge.Bank != "sha256" {
		t.Fatalf("%+v, %v", steps, err)
	}
	if test, err = (Hardware{TPM: TPMNone}).apply(test); err != nil {
		t.Fatal(err)
	}
	var notes []string
	h := &house{Config: Config{Report: func(e Event) { notes = append(notes, e.Text) }}}
	if steps, err := h.predicted(r, test); len(steps) != 0 || err != nil || !strings.Contains(strings.Join(notes, ""), "the test toy has no TPM") {
		t.Errorf("without a TPM: %+v, %v, %q", steps, err, notes)
	}
}

// The same step comes behind those of a spec's test, when what it built is tested.
func TestHeard(t *testing.T) {
	rom := romFiles(t)
	test := smokeTest(toySmoke, "", 1)
	for _, c := range []struct {
		tpm  vm.TPM
		rom  string
		want int
	}{{"", "coreboot.rom", 1}, {vm.TPM20, "coreboot.rom", 2}, {vm.TPM20, "u-boot.rom", 1}} {
		test.TPM = c.tpm
		if got, err := (&house{}).heard(test, rom(c.rom)); err != nil || len(got.Expect)+len(got.Steps) != c.want {
			t.Errorf("%s with a TPM %q: %+v, %v, want %d steps", c.rom, c.tpm, got.Steps, err, c.want)
		}
	}
}

// measuredBoot is what is seen of a boot that measures what a ROM's file holds, and of its payload, which measures too.
func measuredBoot(p *measure.Prediction) smoke.MeasuredBoot {
	var console strings.Builder
	var heard []vm.Extension
	for _, e := range p.Events {
		fmt.Fprintf(&console, "PCR-%d %s %s [%s]\n", e.PCR, e.Digest, p.Algorithm, e.Name)
		heard = append(heard, vm.Extension{PCR: e.PCR, Bank: "sha1", Digest: []byte("another bank's")}, vm.Extension{PCR: e.PCR, Bank: "sha256", Digest: e.Digest})
	}
	heard = append(heard, vm.Extension{PCR: 4, Bank: "sha256", Digest: make([]byte, 32)})
	return smoke.MeasuredBoot{Console: strings.NewReader(console.String()), Extensions: heard, PCRs: map[int][]byte{2: p.PCRs[2], 4: {1}}}
}

// What a boot measured is held against a ROM's file, and the first event that differs is named, by all that tell of it.
func TestPredictionJudge(t *testing.T) {
	path := romFiles(t)("coreboot.rom")
	predict := func(path string) *measure.Prediction {
		r, err := readROM(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := measure.Predict(r.Image)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := predict(path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	last := len(good.Events) - 1
	data[good.Events[last].Offset+good.Events[last].Size-1] ^= 1 // of the payload
	flipped := filepath.Join(t.TempDir(), "flipped.rom")
	if err := os.WriteFile(flipped, data, 0o644); err != nil {
		t.Fatal(err)
	}
	bad := predict(flipped)
	named := fmt.Sprintf("event %d, CBFS: fallback/payload, is %s, want %s", last+1, bad.Events[last].Digest, good.Events[last].Digest)

	change := func(p *measure.Prediction, f func(*smoke.MeasuredBoot)) smoke.MeasuredBoot {
		b := measuredBoot(p)
		f(&b)
		return b
	}
	for _, c := range []struct {
		name       string
		seen       smoke.MeasuredBoot
		tpm        vm.TPM
		saw, wrong string
	}{
		{"as predicted", measuredBoot(good), vm.TPM20, "5 measurements (sha256), each as expected", ""},
		{"a silent console", change(good, func(b *smoke.MeasuredBoot) { b.Console = strings.NewReader("") }), vm.TPM20, "each as expected; the console does not tell them", ""},
		{"another payload", measuredBoot(bad), vm.TPM20, "",
			fmt.Sprintf("it measured what good.rom does not hold: console and TPM: %s; PCRs: PCR 2 is %s, want %s", named, bad.PCRs[2], good.PCRs[2])},
		{"a console that lies", change(bad, func(b *smoke.MeasuredBoot) { b.Console = measuredBoot(good).Console }), vm.TPM20, "",
			"it measured what good.rom does not hold: TPM: " + named},
		{"a TPM that nobody started", change(good, func(b *smoke.MeasuredBoot) { b.PCRs = nil }), vm.TPM20, "", "nothing was measured: the firmware has not started the TPM"},
		{"a TPM of another version", measuredBoot(good), vm.TPM12, "", "nothing can be measured: good.rom is built for a TPM 2.0, and the machine has a TPM 1.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			saw, wrong, err := predictionJudge{Prediction: good, rom: "good.rom", tpm: c.tpm}.of(c.seen)
			if err != nil || !strings.Contains(saw, c.saw) || (saw == "") != (c.saw == "") || !strings.HasPrefix(wrong, c.wrong) || (wrong == "") != (c.wrong == "") {
				t.Errorf("saw %q, wrong %q, %v\nwant %q, %q", saw, wrong, err, c.saw, c.wrong)
			}
		})
	}
}
