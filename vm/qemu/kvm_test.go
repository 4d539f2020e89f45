package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

// romTrial is a trial of a machine whose ROM says a line.
func romTrial(t *testing.T, line string) vm.Trial {
	t.Helper()
	top := t.TempDir()
	return vm.Trial{
		Machine: romMachine(t, top, "pc-q35-6.2", line, vmtest.PowerOff), Runs: "works", Wait: time.Minute,
		Dir: func(name string) (string, error) {
			dir := filepath.Join(top, name)
			return dir, os.Mkdir(dir, 0o700)
		},
	}
}

// Whatever this host's KVM is like (none, broken, sound): the question is answered, in time, and with a reason.
func TestKVMIsAnswered(t *testing.T) {
	needVM(t)
	unforced := unforced(t)
	firmware := func(t *testing.T) vm.Trial {
		trial := romTrial(t, "")
		return vm.FirmwareTrial(trial.Machine, trial.Dir)
	}
	rom := func(t *testing.T) vm.Trial {
		trial := romTrial(t, "works")
		trial.Wait = 3 * time.Second
		return trial
	}
	for _, c := range []struct {
		name  string
		qemu  *Backend
		trial func(*testing.T) vm.Trial
	}{
		{"firmware", &Backend{}, firmware},
		{"a ROM of ours", &Backend{}, rom},
		// A KVM that lacks features of the model is refused above; here it has to show what it can.
		{"firmware, without enforce", unforced, firmware},
		{"a ROM of ours, without enforce", unforced, rom},
	} {
		t.Run(c.name, func(t *testing.T) {
			trial := c.trial(t)
			start := time.Now()
			p, err := trial.Prove(t.Context(), c.qemu)
			took := time.Since(start)
			if err != nil || p.Outcome == "" || p.OK() != (p.Reason == "") || p.OK() != (p.Remedy == "") {
				t.Errorf("%+v, %v", p, err)
			}
			if c.qemu == unforced && p.Outcome == vm.Refused {
				t.Errorf("refused without enforce: %s", p.Reason)
			}
			if took > 2*trial.Wait+5*time.Second {
				t.Errorf("took %s", took)
			}
			t.Logf("after %s: %+v", took, p)
			for _, name := range []string{"kvm-proof", "tcg-proof"} {
				if dir := filepath.Join(filepath.Dir(trial.Machine.Boot.ROM), name); exists(dir) {
					sockets(t, dir)
				}
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unforced is QEMU with 'enforce' taken out of its command line, by a program that stands in QEMU's place: a model that
// KVM lacks something of starts all the same. Belljar itself has no way to say that.
func unforced(t *testing.T) *Backend {
	t.Helper()
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	script := `#!/bin/sh
for a do
	shift
	set -- "$@" "${a%,enforce}"
done
exec ` + Quote([]string{real}) + ` "$@"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Backend{Binary: path}
}

// The same attempt, under the accelerator that always works.
func TestAttemptUnderTCG(t *testing.T) {
	needVM(t)
	for line, want := range map[string]vm.End{"works": vm.SaidAll, "something else": vm.EndedAlone} {
		trial := romTrial(t, line)
		a, err := trial.Attempt(t.Context(), &Backend{}, vm.TCG, time.Minute)
		if err != nil || a.End != want || (a.Figure.Boot > 0) != (want == vm.SaidAll) {
			t.Errorf("a machine that says %q: %+v, %v", line, a, err)
		}
	}
}
