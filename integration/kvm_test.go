package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// quickFailure is a spec whose build is over, with exit code 6, as soon as a guest is up.
func quickFailure(b *belljar) string {
	return b.spec("brief", toySpec("brief", "      exit 3"))
}

// Asked for KVM, a host that cannot do it says so within 15 s, and at once from then on.
func TestBrokenKVM(t *testing.T) {
	needMachines(t)
	rom(t) // an image to work with
	b := onClone(t, "bundles", "images")
	spec := quickFailure(b)
	o := b.run("build", spec, "--accel", "kvm", "--json")
	if o.code == 6 { // the guest came up: this host's KVM works
		usesAccel(t, b, o, "kvm")
		autoTakes(t, "kvm")
		return
	}
	if o.code != 4 {
		t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
	}
	f := o.failure(t)
	t.Logf("after %s: %s", o.took.Round(time.Millisecond), f.Message)
	if o.took > 15*time.Second {
		t.Errorf("it took %s to say so, want 15 s at most", o.took)
	}
	if f.Remedy == "" {
		t.Error("no remedy")
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		contains(t, "failure", f.Message, "no /dev/kvm")
	}
	noMachine(t, b.dir, time.Second)

	best := time.Hour
	for range 3 {
		o = b.exit(4, "build", spec, "--accel", "kvm", "--json")
		best = min(best, o.took)
		for _, e := range o.events {
			if strings.Contains(e.Text, "proving KVM") {
				t.Error("proven a second time")
			}
		}
	}
	t.Logf("again: after %s", best.Round(time.Millisecond))
	if best > 2*time.Second {
		t.Errorf("again it took %s, want 2 s at most", best)
	}
	autoTakes(t, "tcg")
}

// autoTakes says that --accel auto takes an accelerator, and warns once if it is not KVM.
func autoTakes(t *testing.T, accel string) {
	t.Helper()
	b := onClone(t, "bundles", "images")
	spec := quickFailure(b)
	for i, want := range []string{"warning", "note"} {
		o := b.exit(6, "build", spec, "--json")
		usesAccel(t, b, o, accel)
		var said []string
		for _, e := range o.events {
			if (e.Kind == "warning" || e.Kind == "note") && strings.Contains(e.Text, "TCG is used") {
				said = append(said, e.Kind)
			}
		}
		if accel == "tcg" && (len(said) != 1 || said[0] != want && !noDevice()) {
			t.Errorf("call %d: said as %q, want one %s", i+1, said, want)
		}
		if accel == "kvm" {
			return
		}
	}
}

func noDevice() bool {
	_, err := os.Stat("/dev/kvm")
	return err != nil
}

// usesAccel looks at the command line of the machine in which a failed build's stage ran.
func usesAccel(t *testing.T, b *belljar, o *outcome, accel string) {
	t.Helper()
	cmdline, err := os.ReadFile(filepath.Join(b.dir, "runs", o.failure(t).Run, "stage-build", "cmdline"))
	must(t, err)
	contains(t, "QEMU's command line", string(cmdline), "-accel "+accel)
}
