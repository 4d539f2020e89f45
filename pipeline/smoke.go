package pipeline

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// namedVerdict is a verdict with the artifact that it is about.
type namedVerdict struct {
	artifact string
	*smoke.Verdict
}

// trial is a ROM put to a test.
type trial struct {
	artifact string // what the ROM is called
	rom      string // path of its file
	dir      string // of the machine, in the run's folder
	test     smoke.Test
}

// smoke boots what lies in quarantine. Only when all tests passed may it leave.
func (j *job) smoke(ctx context.Context, files map[string]string) error {
	if err := j.asked.choose(ctx); err != nil {
		return err
	}
	start := time.Now()
	var trials []trial
	for _, t := range j.asked.loaded.Spec.Smoke {
		test, err := j.heard(smokeTest(t, files[t.Vars], j.pace), files[t.Artifact])
		if err != nil {
			return err
		}
		trials = append(trials, trial{t.Artifact, files[t.Artifact], "smoke-" + t.Name, test})
	}
	verdicts, err := j.smokeAll(ctx, trials, j.asked.decision.Accel, j.run)
	j.verdicts = verdicts
	j.parts = append(j.parts, Part{Phase: PhaseSmoke, Took: time.Since(start)})
	return err
}

// heard is a test that, where the machine has a TPM, also holds what the ROM measures against what its file lets expect.
func (h *house) heard(t smoke.Test, path string) (smoke.Test, error) {
	if t.TPM == "" {
		return t, nil
	}
	r, err := readROM(path)
	if err != nil {
		return t, err
	}
	steps, err := h.predicted(r, t)
	t.Steps = append(t.Steps, steps...)
	return t, err
}

// atOnce is how many ROMs boot side by side: each has one CPU.
const atOnce = 2

// smokeAll runs the trials, and gives the first failure in their order.
func (h *house) smokeAll(ctx context.Context, trials []trial, accel vm.Accel, run *vm.Run) ([]namedVerdict, error) {
	verdicts := make([]namedVerdict, len(trials))
	errs := make([]error, len(trials))
	gate := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, t := range trials {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			verdicts[i].artifact = t.artifact
			verdicts[i].Verdict, errs[i] = h.smokeOne(ctx, t, accel, run)
		})
	}
	all.Wait()
	for i, err := range errs {
		if err == nil {
			err = verdicts[i].Err()
		}
		if err != nil {
			return verdicts, err
		}
	}
	return verdicts, nil
}

func (h *house) smokeOne(ctx context.Context, t trial, accel vm.Accel, run *vm.Run) (*smoke.Verdict, error) {
	dir, err := run.Dir(t.dir)
	if err != nil {
		return nil, err
	}
	var v *smoke.Verdict
	boots := fmt.Sprintf("%s boots on %s", filepath.Base(t.rom), t.test.Machine)
	_, err = h.phase(PhaseSmoke, strings.TrimPrefix(t.dir, "smoke-"), boots, func() (string, error) {
		v, err = smoke.Run(ctx, h.backend, accel, t.rom, t.test, dir)
		if err != nil {
			return "", err
		}
		return verdictText(v), nil
	})
	return v, err
}

func verdictText(v *smoke.Verdict) string {
	if v.Pass {
		return "pass: " + v.Reason
	}
	return "FAIL: " + v.Reason
}

// smokeTest is a spec's smoke test as the machines' package knows it; vars is the file of a UEFI's variables, or empty.
func smokeTest(t specs.Smoke, vars string, pace vm.Pace) smoke.Test {
	test := smoke.Test{
		Name: t.Name, Machine: t.Machine, CPU: t.CPU, Memory: int64(t.Memory), Console: t.Console, Disk: t.Disk, Headless: t.Headless,
		Vars: vars, TPM: vm.TPM(t.TPM), Expect: t.Expect, Forbid: t.Forbid,
		Silence: time.Duration(t.Silence), Timeout: time.Duration(t.Timeout), Settle: time.Duration(t.Settle), Pace: pace,
	}
	for _, s := range t.Steps {
		if s.With != specs.WithTestDisk || t.Disk {
			test.Steps = append(test.Steps, smokeStep(s))
		}
	}
	return test
}

func smokeStep(s specs.Step) smoke.Step {
	step := smoke.Step{
		Expect: s.Expect, Text: s.Text, Send: s.Send, Keys: s.Press, Reboot: s.Reboot, PowerOff: s.PowerOff,
		Screenshot: s.Screenshot, QMP: s.QMP, On: s.On, Within: time.Duration(s.Within), Note: s.Note,
	}
	if s.PCR != nil {
		step.PCR = &smoke.PCR{Bank: s.PCR.Bank, Index: s.PCR.Index, Value: unhex(s.PCR.Value)}
	}
	if s.EventLog != nil {
		step.EventLog = &smoke.EventLog{Bank: s.EventLog.Bank, Index: s.EventLog.Index}
		for _, e := range s.EventLog.Events {
			step.EventLog.Events = append(step.EventLog.Events, smoke.Event{Name: e.Name, Digest: unhex(e.Digest)})
		}
	}
	return step
}

// unhex reads hex digits, which the spec's parser has checked.
func unhex(s string) []byte {
	data, err := hex.DecodeString(s)
	if err != nil {
		panic("pipeline: a spec with a bad digest was accepted: " + err.Error())
	}
	return data
}

func showVerdicts(verdicts []namedVerdict) []Verdict {
	var shown []Verdict
	for _, v := range verdicts {
		if v.Verdict == nil {
			continue
		}
		out := Verdict{
			Test: v.Test, ROM: v.artifact, Pass: v.Pass, Text: v.Reason, Took: v.Took, Screen: v.Screen, File: v.File,
			Console: v.ConsoleTail,
		}
		for _, s := range v.Steps {
			out.Steps = append(out.Steps, Outcome(s))
		}
		shown = append(shown, out)
	}
	return shown
}
