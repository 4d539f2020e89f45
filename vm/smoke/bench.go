package smoke

import (
	"context"
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
	test  Test
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
	case s.Judge != nil:
		return b.judge(*s.Judge)
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
