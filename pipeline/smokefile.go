package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/smoke"
)

// SmokeOptions are those of 'belljar smoke'.
type SmokeOptions struct {
	// Args are ROM files; the first may be a spec, whose smoke tests then judge the others in place of what it builds.
	Args    []string
	Profile string   // shipped name or path; empty: found by looking at the ROM
	Expect  []string // more patterns, behind the profile's; without a profile, these alone
	Forbid  []string // more patterns
	Set     Hardware
	Timeout time.Duration // of each boot; 0: the test's
	Count   int           // how often each ROM is booted; 0 is once
	// Reference is the path of the ROM that those should be: what they measure is held against it, and not against themselves.
	Reference string
	JUnit     string // path of a report to write; empty: none
	Accel     vm.Accel
}

// Hardware is what of a test's or a profile's machine is to be another. An empty field leaves it.
type Hardware struct {
	Machine  string // versioned type
	Memory   specs.Size
	Console  string
	Headless bool   // no VGA
	TPM      string // its version, or 'none'
	Disk     string // path of an image, 'test' for Belljar's test disk, or 'none'
	USB      string // path of an image
	Vars     string // path of a UEFI's variables
}

// The words that Hardware.Disk takes beside a path, and Hardware.TPM beside a version.
const (
	DiskTest = "test"
	DiskNone = "none"
	TPMNone  = "none"
)

// Smoke boots ROM files as a spec's smoke tests or a profile say, and gives their verdicts. A ROM that fails is an error of
// kind Smoke; the verdicts are there all the same.
func Smoke(ctx context.Context, cfg Config, o SmokeOptions) (_ []Verdict, err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	accel := o.Accel
	if accel == vm.Auto {
		accel = vm.TCG // a boot takes a second either way, and nothing of the guest's kernel is here to prove KVM with
	}
	h.pace = vm.PaceOf(accel, vm.Proof{})
	trials, err := h.trials(o)
	if err != nil {
		return nil, err
	}
	run, err := h.newRun(ctx, "smoke "+strings.Join(o.Args, " "))
	if err != nil {
		return nil, err
	}
	h.followPhases(run)
	verdicts, err := h.smokeAll(ctx, trials, accel, run)
	shown := gather(showVerdicts(verdicts), max(o.Count, 1))
	state := vm.Passed
	switch {
	case err != nil && ctx.Err() != nil:
		state = vm.Cancelled
	case err != nil:
		state = vm.Failed
	}
	if o.JUnit != "" && len(shown) > 0 {
		err = errors.Join(err, writeJUnit(o.JUnit, shown))
	}
	return shown, errors.Join(err, run.Finish(state, err))
}

// trials are what is to be booted, each ROM and test as often as asked, one after another.
func (h *house) trials(o SmokeOptions) ([]trial, error) {
	tests, roms, err := h.given(o)
	if err != nil {
		return nil, err
	}
	reference, err := o.reference()
	if err != nil {
		return nil, err
	}
	var all []trial
	for _, rom := range roms {
		r, err := readROM(rom)
		if err != nil {
			return nil, err
		}
		of := tests
		if of == nil {
			if of, err = h.profiled(o, r); err != nil {
				return nil, err
			}
		}
		for _, t := range of {
			if t, err = o.Set.apply(t); err != nil {
				return nil, err
			}
			if o.Timeout > 0 {
				t.Timeout = o.Timeout
			}
			t.Forbid = append(t.Forbid, o.Forbid...)
			steps, err := h.predicted(reference.or(r), t)
			if err != nil {
				return nil, err
			}
			t.Steps = append(t.Steps, steps...)
			for n := range max(o.Count, 1) {
				all = append(all, trial{rom, rom, o.folder(roms, rom, t.Name, n), t})
			}
		}
	}
	return all, o.useful(all)
}

// folder names a trial's folder in the run's.
func (o SmokeOptions) folder(roms []string, rom, test string, n int) string {
	name := "smoke-"
	for i := range roms {
		if len(roms) > 1 && roms[i] == rom {
			name += fmt.Sprintf("%d-", i+1)
		}
	}
	if name += test; o.Count > 1 {
		name += fmt.Sprintf("-%d", n+1)
	}
	return name
}

// given are the tests of a spec, or none if no spec was named, and the ROMs.
func (h *house) given(o SmokeOptions) (tests []smoke.Test, roms []string, err error) {
	for _, p := range append(append([]string(nil), o.Expect...), o.Forbid...) {
		if err := specs.CheckPattern(p); err != nil {
			return nil, nil, fault.New(fault.Usage, "pattern of the command line", "%w", err)
		}
	}
	if len(o.Args) == 0 || !isSpec(o.Args[0]) {
		return nil, o.Args, nil
	}
	loaded, err := specs.Load(o.Args[0])
	if err != nil {
		return nil, nil, err
	}
	name := loaded.Spec.Name
	switch {
	case len(loaded.Spec.Smoke) == 0:
		return nil, nil, fault.New(fault.Usage, "smoke", "the spec %s has no smoke tests", name).
			WithRemedy("name one that has, or write some into it")
	case len(o.Args) == 1:
		return nil, nil, fault.New(fault.Usage, "smoke", "%s is a spec: which ROM are its smoke tests to judge?", name).
			WithRemedy("name the ROM behind it: belljar smoke %s ROM", o.Args[0])
	case o.Profile != "":
		return nil, nil, fault.New(fault.Usage, "smoke", "both a spec and a profile").WithRemedy("name one of them")
	}
	for _, t := range loaded.Spec.Smoke {
		test := smokeTest(t, "", h.pace)
		if t.Vars != "" && o.Set.Vars == "" {
			return nil, nil, fault.New(fault.Usage, "smoke", "the test %s boots with the variables of a UEFI, %s", t.Name, t.Vars).
				WithRemedy("name their file with --vars")
		}
		for _, p := range o.Expect {
			test.Steps = append(test.Steps, smoke.Step{Expect: p})
		}
		tests = append(tests, test)
	}
	return tests, o.Args[1:], nil
}

// profiled makes a test of a profile: the one that was named, or the one that the ROM looks like. Patterns of the command
// line without a named profile stand in place of its steps.
func (h *house) profiled(o SmokeOptions, r romFile) ([]smoke.Test, error) {
	p, err := h.profile(o.Profile, r)
	if err != nil && len(o.Expect) > 0 && o.Profile == "" {
		return []smoke.Test{h.bare(o)}, nil
	}
	if err != nil {
		return nil, err
	}
	spec := p.Test(r.path)
	if o.Profile == "" && len(o.Expect) > 0 {
		spec.Steps, spec.Expect = nil, nil
	}
	if o.Set.Disk != "" {
		spec.Disk = o.Set.Disk == DiskTest
	}
	t := smokeTest(spec, "", h.pace)
	if p.Flash {
		if t.Vars, err = r.variables(o.Set.Vars); err != nil {
			return nil, err
		}
	}
	for _, e := range o.Expect {
		t.Steps = append(t.Steps, smoke.Step{Expect: e})
	}
	return []smoke.Test{t}, nil
}

// profile is the one of that name, or, without a name, the one for what the ROM looks like. Of shipped ones the machine is
// the ROM's own, where the ROM tells it.
func (h *house) profile(name string, r romFile) (*specs.Profile, error) {
	if name == "" {
		found, why, err := r.looksLike()
		if err != nil {
			return nil, err
		}
		h.note(PhaseSmoke, fmt.Sprintf("%s is taken for %s: %s", filepath.Base(r.path), found, why))
		name = found
	}
	p, err := specs.LoadProfile(name)
	if err == nil && r.Image != nil && r.Machine != "" && slices.Contains(specs.Profiles(), name) {
		p.Machine = r.Machine
	}
	return p, err
}

// bare is the test of a ROM of no known kind.
func (h *house) bare(o SmokeOptions) smoke.Test {
	return smoke.Test{Name: "rom", Machine: "pc-q35-6.2", Expect: o.Expect, Pace: h.pace}
}

// apply changes a test's machine.
func (s Hardware) apply(t smoke.Test) (smoke.Test, error) {
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&t.Machine, s.Machine)
	set(&t.Console, s.Console)
	set(&t.Vars, s.Vars)
	if set((*string)(&t.TPM), s.TPM); s.TPM == TPMNone {
		t.TPM = ""
	}
	set(&t.USBFile, s.USB)
	t.Headless = t.Headless || s.Headless
	if s.Memory != 0 {
		t.Memory = int64(s.Memory)
	}
	switch s.Disk {
	case "":
	case DiskTest, DiskNone:
		t.Disk = s.Disk == DiskTest
	default:
		t.Disk, t.DiskFile = false, s.Disk
	}
	for _, path := range []string{t.DiskFile, t.USBFile, t.Vars} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return t, fault.New(fault.Input, "read "+path, "it is not a file that is there")
		}
	}
	return t, nil
}

// gather makes one verdict of each boots that follow one another.
func gather(all []Verdict, boots int) []Verdict {
	if boots == 1 {
		return all
	}
	var out []Verdict
	for len(all) > 0 {
		n := min(boots, len(all))
		out = append(out, together(all[:n]))
		all = all[n:]
	}
	return out
}

// together is a verdict on several boots: that of the first that failed, with the spread of all.
func together(all []Verdict) Verdict {
	v, spread := all[0], &Spread{Boots: len(all)}
	v.Took = 0
	for _, one := range all {
		v.Took += one.Took
		switch {
		case one.Pass:
			spread.Passed++
		case v.Pass:
			took := v.Took
			v = one
			v.Took = took
		}
		spread.add(one.Steps)
	}
	v.Spread = spread
	if v.Pass {
		v.Text = fmt.Sprintf("all %d boots passed", spread.Boots)
	} else {
		v.Text = fmt.Sprintf("%d of %d boots passed; the first that did not: %s", spread.Passed, spread.Boots, v.Text)
	}
	return v
}

// add takes a boot's steps in.
func (s *Spread) add(steps []Outcome) {
	for i, o := range steps {
		if i == len(s.Steps) {
			s.Steps = append(s.Steps, StepSpread{Step: o.Step})
		}
		if !o.Pass {
			continue
		}
		step := &s.Steps[i]
		if step.Came++; step.Came == 1 || o.At < step.Fastest {
			step.Fastest = o.At
		}
		step.Slowest = max(step.Slowest, o.At)
	}
}
