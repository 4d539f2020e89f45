package smoke

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
)

// bench is where a test's steps are done: the running machine and its folder.
type bench struct {
	guest vm.Guest // nil until the machine runs
	dir   string
}

// do is what a step that waits for nothing does.
func (b *bench) do(s Step) func(context.Context) (string, error) {
	switch {
	case s.Send != "":
		return b.send(s.Send)
	case len(s.Keys) > 0:
		return b.press(s.Keys)
	case s.Screenshot != "":
		return b.screenshot(s.Screenshot)
	case s.PCR != nil:
		return b.pcr(*s.PCR)
	case s.EventLog != nil:
		return b.eventLog(*s.EventLog)
	}
	return b.command(s.QMP)
}

// lacks is the fault of a test that asks for what the backend's machines cannot do.
func lacks(what string) error {
	return fault.New(fault.Usage, "smoke test", "this backend's machines have no %s", what).WithRemedy("use --backend qemu")
}

func (b *bench) send(text string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		typist, ok := b.guest.(vm.Typist)
		if !ok {
			return "", lacks("console that takes input")
		}
		return fmt.Sprintf("typed %q", text), b.unlessGone(typist.Type(ctx, []byte(text)))
	}
}

func (b *bench) press(keys []string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		keyboard, ok := b.guest.(vm.Keyboard)
		if !ok {
			return "", lacks("keyboard to press")
		}
		return "pressed " + strings.Join(keys, " "), b.unlessGone(keyboard.Press(ctx, keys...))
	}
}

func (b *bench) command(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		buttons, ok := b.guest.(vm.Buttons)
		if !ok {
			return "", lacks("monitor to command")
		}
		return vm.MonitorCommands[name], b.unlessGone(buttons.Command(ctx, name))
	}
}

func (b *bench) screenshot(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		s, ok := b.guest.(vm.Screendumper)
		if !ok {
			return "", lacks("screen")
		}
		taken, err := s.Screendump(ctx)
		if err != nil {
			return "", b.unlessGone(err)
		}
		path := filepath.Join(b.dir, name+".png")
		if err := os.Rename(taken, path); err != nil {
			return "", fault.New(fault.Host, "screenshot "+name, "%w", err)
		}
		return path, nil
	}
}

// unlessGone makes a finding of a machine that ended under a step's hands.
func (b *bench) unlessGone(err error) error {
	if fault.KindOf(err) == fault.Guest {
		return &console.Differs{Text: err.Error()}
	}
	return err
}

// measured is the machine as one with a TPM.
func (b *bench) measured() (vm.Measured, error) {
	m, ok := b.guest.(vm.Measured)
	if !ok {
		return nil, lacks("TPM to read")
	}
	return m, nil
}

func (b *bench) pcr(want PCR) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		m, err := b.measured()
		if err != nil {
			return "", err
		}
		values, err := m.PCRs(ctx, want.Bank)
		switch {
		case errors.Is(err, vm.ErrTPMNotStarted):
			return "", &console.Differs{Text: fmt.Sprintf("PCR %d (%s) cannot be read: %v", want.Index, want.Bank, vm.ErrTPMNotStarted)}
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err != nil:
			return "", fault.New(fault.Host, "read PCRs", "%w", err)
		}
		is := values[want.Index]
		if len(want.Value) > 0 && string(is) != string(want.Value) {
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
		case string(is[i]) != string(e.Digest):
			return fmt.Sprintf("%s is %x, and the test wants %x", name, is[i], e.Digest)
		}
	}
	if extra := is[min(len(is), len(want.Events)):]; len(extra) > 0 && !want.Prefix {
		return fmt.Sprintf("after the %d expected measurements %s came %d more, first %x", len(want.Events), place, len(extra), extra[0])
	}
	return ""
}
