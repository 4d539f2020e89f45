package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// namedVerdict is a verdict with the artifact that it is about.
type namedVerdict struct {
	artifact string
	*smoke.Verdict
}

// Smoke boots a ROM file as a spec's smoke tests say, and gives their verdicts. A ROM that fails is an error of kind
// Smoke; the verdicts are there all the same.
func Smoke(ctx context.Context, cfg Config, o SmokeOptions) (_ []Verdict, err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	loaded, err := specs.Load(o.Spec)
	if err != nil {
		return nil, err
	}
	if len(loaded.Spec.Smoke) == 0 {
		return nil, fault.New(fault.Usage, "smoke", "the spec %s has no smoke tests", loaded.Spec.Name).
			WithRemedy("name one that has, or write some into it")
	}
	if _, err := os.Stat(o.ROM); err != nil {
		return nil, fault.New(fault.Input, "read ROM", "%w", err)
	}
	run, err := h.newRun(ctx, "smoke "+loaded.Spec.Name)
	if err != nil {
		return nil, err
	}
	h.followPhases(run)
	accel := o.Accel
	if accel == vm.Auto {
		accel = vm.TCG // a boot takes a second either way, and nothing of the guest's kernel is here to prove KVM with
	}
	h.pace = vm.PaceOf(accel, vm.Proof{})
	files := map[string]string{}
	for _, t := range loaded.Spec.Smoke {
		files[t.Artifact] = o.ROM
	}
	verdicts, err := h.smokeAll(ctx, loaded.Spec.Smoke, files, accel, run)
	state := vm.Passed
	switch {
	case err != nil && ctx.Err() != nil:
		state = vm.Cancelled
	case err != nil:
		state = vm.Failed
	}
	return showVerdicts(verdicts), errors.Join(err, run.Finish(state, err))
}

// smoke boots what lies in quarantine. Only when all tests passed may it leave.
func (j *job) smoke(ctx context.Context, files map[string]string) error {
	start := time.Now()
	verdicts, err := j.smokeAll(ctx, j.loaded.Spec.Smoke, files, j.decision.Accel, j.run)
	j.verdicts = verdicts
	j.parts = append(j.parts, Part{Phase: PhaseSmoke, Took: time.Since(start)})
	return err
}

// atOnce is how many ROMs boot side by side: each has one CPU.
const atOnce = 2

// smokeAll runs the tests, and gives the first failure in the order of the spec.
func (h *house) smokeAll(ctx context.Context, tests []specs.Smoke, files map[string]string, accel vm.Accel, run *vm.Run,
) ([]namedVerdict, error) {
	verdicts := make([]namedVerdict, len(tests))
	errs := make([]error, len(tests))
	gate := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, t := range tests {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			verdicts[i].artifact = t.Artifact
			verdicts[i].Verdict, errs[i] = h.smokeOne(ctx, t, files[t.Artifact], accel, run)
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

func (h *house) smokeOne(ctx context.Context, t specs.Smoke, rom string, accel vm.Accel, run *vm.Run,
) (*smoke.Verdict, error) {
	dir, err := run.Dir("smoke-" + t.Name)
	if err != nil {
		return nil, err
	}
	var v *smoke.Verdict
	boots := fmt.Sprintf("%s boots on %s", filepath.Base(rom), t.Machine)
	_, err = h.phase(PhaseSmoke, t.Name, boots, func() (string, error) {
		v, err = smoke.Run(ctx, h.backend, accel, rom, smokeTest(t, h.pace), dir)
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

func smokeTest(t specs.Smoke, pace vm.Pace) smoke.Test {
	return smoke.Test{
		Name: t.Name, Machine: t.Machine, CPU: t.CPU, Memory: int64(t.Memory), Console: t.Console, Disk: t.Disk,
		Expect: t.Expect, Forbid: t.Forbid,
		Silence: time.Duration(t.Silence), Timeout: time.Duration(t.Timeout), Pace: pace,
	}
}

func showVerdicts(verdicts []namedVerdict) []Verdict {
	var shown []Verdict
	for _, v := range verdicts {
		if v.Verdict != nil {
			shown = append(shown, Verdict{Test: v.Test, Pass: v.Pass, Text: v.Reason, Took: v.Took})
		}
	}
	return shown
}
