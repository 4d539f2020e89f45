package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// Judge says whether a boot measured what it should have. What that is, is not for this package to know.
type Judge struct {
	Name string // what it judges, for people
	Bank string // of which it is shown the PCRs
	// Of is what it saw, and a sentence on what is wrong with that, empty if nothing is. The error is for what is no verdict.
	Of func(MeasuredBoot) (saw, wrong string, err error)
}

// MeasuredBoot is what a machine measured so far, by each that tells of it.
type MeasuredBoot struct {
	Console    io.Reader      // the console that the test reads, from power-on
	Extensions []vm.Extension // what the TPM was told to extend since it was started, in order
	PCRs       map[int][]byte // what the TPM holds; nil if the firmware has not started it
}

// measured is the machine as one with a TPM.
func (b *bench) measured() (vm.Measured, error) {
	if b.test.TPM == "" {
		return nil, &console.Differs{Text: "the machine has no TPM, and the test looks at what was measured into one"}
	}
	m, ok := b.guest.(vm.Measured)
	if !ok {
		return nil, lacks("TPM to read")
	}
	return m, nil
}

// pcrs reads a bank; vm.ErrTPMNotStarted is among its errors.
func pcrs(ctx context.Context, m vm.Measured, bank string) (map[int][]byte, error) {
	values, err := m.PCRs(ctx, bank)
	switch {
	case err == nil || errors.Is(err, vm.ErrTPMNotStarted):
		return values, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, fault.New(fault.Host, "read PCRs", "%w", err)
}

func (b *bench) pcr(want PCR) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		m, err := b.measured()
		if err != nil {
			return "", err
		}
		values, err := pcrs(ctx, m, want.Bank)
		if errors.Is(err, vm.ErrTPMNotStarted) {
			return "", &console.Differs{Text: fmt.Sprintf("PCR %d (%s) cannot be read: %v", want.Index, want.Bank, vm.ErrTPMNotStarted)}
		}
		if err != nil {
			return "", err
		}
		is := values[want.Index]
		if len(want.Value) > 0 && !bytes.Equal(is, want.Value) {
			return "", &console.Differs{Text: fmt.Sprintf("PCR %d (%s) is %x, and the test wants %x%s", want.Index, want.Bank, is,
				want.Value, measurements(m.Extensions(), want.Bank, want.Index))}
		}
		return fmt.Sprintf("%x", is), nil
	}
}

// measurements says what went into a PCR.
func measurements(all []vm.Extension, bank string, pcr int) string {
	var digests []string
	for _, e := range all {
		if e.Bank == bank && e.PCR == pcr {
			digests = append(digests, fmt.Sprintf("%x", e.Digest))
		}
	}
	if len(digests) == 0 {
		return "; nothing was measured into it"
	}
	return fmt.Sprintf("; measured into it were, in order: %s", strings.Join(digests, ", "))
}

// eventLog compares what was measured with what should have been, and names the first that differs.
func (b *bench) eventLog(want EventLog) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		m, err := b.measured()
		if err != nil {
			return "", err
		}
		var is [][]byte
		for _, e := range m.Extensions() {
			if e.Bank == want.Bank && e.PCR == want.Index {
				is = append(is, e.Digest)
			}
		}
		if text := firstDifference(is, want); text != "" {
			return "", &console.Differs{Text: text}
		}
		return fmt.Sprintf("%d measurements, each as expected", len(want.Events)), nil
	}
}

func firstDifference(is [][]byte, want EventLog) string {
	place := fmt.Sprintf("into PCR %d (%s)", want.Index, want.Bank)
	for i, e := range want.Events {
		name := fmt.Sprintf("measurement %d of %d %s", i+1, len(want.Events), place)
		if e.Name != "" {
			name += ", of " + e.Name + ","
		}
		switch {
		case i >= len(is):
			return fmt.Sprintf("%s never came: the test wants %x", name, e.Digest)
		case !bytes.Equal(is[i], e.Digest):
			return fmt.Sprintf("%s is %x, and the test wants %x", name, is[i], e.Digest)
		}
	}
	if extra := is[min(len(is), len(want.Events)):]; len(extra) > 0 {
		return fmt.Sprintf("after the %d expected measurements %s came %d more, first %x", len(want.Events), place, len(extra), extra[0])
	}
	return ""
}

// judge hands on all that is known of what was measured.
func (b *bench) judge(j Judge) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		m, err := b.measured()
		if err != nil {
			return "", err
		}
		seen := MeasuredBoot{Extensions: m.Extensions()}
		if seen.PCRs, err = pcrs(ctx, m, j.Bank); err != nil && !errors.Is(err, vm.ErrTPMNotStarted) {
			return "", err
		}
		log, err := os.Open(filepath.Join(b.dir, b.test.log()))
		if err != nil {
			return "", fault.New(fault.Host, "read console", "%w", err)
		}
		defer log.Close()
		seen.Console = log
		saw, wrong, err := j.Of(seen)
		if err == nil && wrong != "" {
			err = &console.Differs{Text: wrong}
		}
		return saw, err
	}
}

// log is the file in the machine's folder to which the test's console is written.
func (t Test) log() string {
	if t.Console == DebugCon {
		return vm.DebugconLog
	}
	return vm.ConsoleLog
}
