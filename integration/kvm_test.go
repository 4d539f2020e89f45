package integration

import (
	"os"
	"os/exec"
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

// What doctor says of KVM when QEMU is as it is, and when it starts machines of which KVM lacks features: the case in which
// a device opens, makes machines, and then hangs a stock kernel.
func TestDoctorTellsOfKVM(t *testing.T) {
	needMachines(t)
	rom(t) // a kernel in the store
	for _, unforced := range []bool{false, true} {
		b := onClone(t, "bundles")
		if unforced {
			b.env = append(b.env, "PATH="+unforcedQEMU(t)+":"+os.Getenv("PATH"))
		}
		start := time.Now()
		kvm, tcg := accelChecks(t, b)
		took := time.Since(start)
		t.Logf("without enforce: %v; after %s:\n  %s\n  %s\n  %s", unforced, took, kvm.Text, kvm.Remedy, tcg.Text)
		if took > 15*time.Second+mirrorPatience {
			t.Errorf("it took %s", took)
		}
		if kvm.State == "ok" {
			continue
		}
		if kvm.Remedy == "" {
			t.Error("no remedy")
		}
		contains(t, "doctor on this host", kvm.Text, "this host is")
		if _, err := os.Stat("/sys/module/kvm_pvm"); err == nil && unforced {
			contains(t, "doctor", kvm.Text, "hangs: ") // it was seen to, with every stock kernel
		}
		start = time.Now()
		again, _ := accelChecks(t, b)
		if !noDevice() {
			contains(t, "doctor", again.Text, "found earlier")
		}
		if took := time.Since(start); took > 5*time.Second+mirrorPatience {
			t.Errorf("again it took %s", took)
		}
	}
}

// mirrorPatience is how long doctor may wait for a mirror, beside what is looked at here.
const mirrorPatience = 20 * time.Second

type check struct{ Name, State, Text, Remedy string }

// accelChecks calls doctor for what it says of accelerators.
func accelChecks(t *testing.T, b *belljar) (kvm, tcg check) {
	t.Helper()
	var result struct{ Checks []check }
	b.run("doctor", "--json").result(t, &result)
	for _, c := range result.Checks {
		switch c.Name {
		case "kvm":
			kvm = c
		case "tcg":
			tcg = c
		}
	}
	if kvm.Text == "" || tcg.Text == "" {
		t.Fatalf("checks %+v", result.Checks)
	}
	return kvm, tcg
}

// unforcedQEMU is a folder with programs that start QEMU without 'enforce'.
func unforcedQEMU(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"qemu-system-x86_64", "qemu-system-i386"} {
		real, err := exec.LookPath(name)
		must(t, err)
		script := "#!/bin/sh\nfor a do shift; set -- \"$@\" \"${a%,enforce}\"; done\nexec " + real + " \"$@\"\n"
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
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
