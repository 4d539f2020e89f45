package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	JUnit   string        // path of a report to write; empty: none
	Accel   vm.Accel
}

// Hardware is what of a test's or a profile's machine is to be another. An empty field leaves it.
type Hardware struct {
	Machine string // versioned type
	Memory  specs.Size
	Console string
	TPM     string
	Disk    string // path of an image, 'test' for Belljar's test disk, or 'none'
	USB     string // path of an image
	Vars    string // path of a UEFI's variables
}

// The words that Hardware.Disk takes beside a path.
const (
	DiskTest = "test"
	DiskNone = "none"
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
	var all []trial
	for _, rom := range roms {
		data, err := readROM(rom)
		if err != nil {
			return nil, err
		}
		of := tests
		if of == nil {
			if of, err = h.profiled(o, rom, data); err != nil {
				return nil, err
			}
		}
		for _, t := range of {
			if t, err = o.Set.apply(t, rom, data); err != nil {
				return nil, err
			}
			if o.Timeout > 0 {
				t.Timeout = o.Timeout
			}
			t.Forbid = append(t.Forbid, o.Forbid...)
			for n := range max(o.Count, 1) {
				all = append(all, trial{rom, rom, o.folder(roms, rom, t.Name, n), t})
			}
		}
	}
	return all, nil
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

// largestROM is more than any machine takes.
const largestROM = 64 << 20

// readROM reads a ROM file to look at it.
func readROM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fault.New(fault.Input, "read ROM", "%w", err)
	case !info.Mode().IsRegular():
		return nil, fault.New(fault.Input, "read ROM", "%s is not a file", path)
	case info.Size() > largestROM:
		return nil, fault.New(fault.Input, "read ROM", "%s has %d bytes: no machine has room for that", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Host, "read ROM", "%w", err)
	}
	return data, nil
}

// profiled makes a test of a profile: the one that was named, or the one that the ROM looks like. Patterns of the command
// line without a named profile stand in place of its steps.
func (h *house) profiled(o SmokeOptions, rom string, data []byte) ([]smoke.Test, error) {
	name := o.Profile
	if name == "" {
		found := sniff(data)
		switch {
		case found == "" && len(o.Expect) > 0:
			return []smoke.Test{h.bare(o)}, nil
		case found == "":
			return nil, unknownROM(rom, data)
		}
		h.note(PhaseSmoke, fmt.Sprintf("%s looks like %s: its profile is taken", filepath.Base(rom), found))
		name = found
	}
	p, err := specs.LoadProfile(name)
	if err != nil {
		return nil, err
	}
	spec := p.Test(rom)
	if o.Profile == "" && len(o.Expect) > 0 {
		spec.Steps, spec.Expect = nil, nil
	}
	switch o.Set.Disk {
	case "":
	case DiskTest:
		spec.Disk = true
	default:
		spec.Disk = false
	}
	t := smokeTest(spec, "", h.pace)
	if p.Flash {
		if t.Vars, err = variables(o.Set.Vars, rom, data); err != nil {
			return nil, err
		}
	}
	for _, e := range o.Expect {
		t.Steps = append(t.Steps, smoke.Step{Expect: e})
	}
	return []smoke.Test{t}, nil
}

// bare is the test of a ROM of no known kind.
func (h *house) bare(o SmokeOptions) smoke.Test {
	return smoke.Test{Name: "rom", Machine: "pc-q35-6.2", Expect: o.Expect, Pace: h.pace}
}

func unknownROM(rom string, data []byte) error {
	err := fault.New(fault.Input, "look at the ROM", "it cannot be told what kind of ROM %s is", rom)
	if why := smoke.Unfit(data, filepath.Base(rom)); why != "" {
		err = fault.New(fault.Input, "look at the ROM", "%s", why)
	}
	return err.WithRemedy("if it is one all the same, name a profile with --profile (%s), or what it has to print with --expect",
		strings.Join(specs.Profiles(), ", "))
}

// apply changes a test's machine.
func (s Hardware) apply(t smoke.Test, rom string, data []byte) (smoke.Test, error) {
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&t.Machine, s.Machine)
	set(&t.Console, s.Console)
	set(&t.Vars, s.Vars)
	set((*string)(&t.TPM), s.TPM)
	set(&t.USBFile, s.USB)
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
