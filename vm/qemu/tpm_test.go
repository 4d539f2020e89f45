package qemu

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

// measuring is QEMU's own SeaBIOS, which starts the TPM and measures what it boots from, with no disk to boot from.
func measuring(t *testing.T, version vm.TPM) vm.Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines")
	}
	m := vmtest.QEMUMachines()["smoke-tpm2"]
	m.TPM, m.Boot = version, vm.Boot{}
	return m
}

// start boots m in a folder of its own, with or without confinement as this test's user can.
func startTPM(t *testing.T, m vm.Machine) (vm.Guest, string) {
	t.Helper()
	dir := t.TempDir()
	b := new(Backend)
	if err := b.Preflight(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	g, err := b.Start(t.Context(), m, dir)
	if err != nil {
		t.Fatalf("%v\n%v", err, fault.Chain(err)[0].Evidence)
	}
	t.Cleanup(func() { g.Close() })
	return g, dir
}

// measured waits until SeaBIOS has measured: its last words to the TPM are the separators of PCRs 0 to 7.
func measured(t *testing.T, g vm.Guest) []vm.Extension {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all := g.(vm.Measured).Extensions()
		for _, e := range all {
			if e.PCR == 7 {
				return all
			}
		}
	}
	t.Fatalf("SeaBIOS did not measure in 30 s: %v", g.(vm.Measured).Extensions())
	return nil
}

func TestTPM(t *testing.T) {
	for version, bank := range map[vm.TPM]string{vm.TPM20: "sha256", vm.TPM12: "sha1"} {
		t.Run(string(version), func(t *testing.T) {
			g, dir := startTPM(t, measuring(t, version))
			all := measured(t, g)
			values, err := g.(vm.Measured).PCRs(t.Context(), bank)
			if err != nil {
				t.Fatal(err)
			}
			if want := replay(all, bank)[7]; len(values) != 24 || !bytes.Equal(values[7], want) {
				t.Errorf("%d PCRs; PCR 7 is %x, and its extensions come to %x", len(values), values[7], want)
			}
			// QEMU ends the TPM when it ends, and then its PCRs would be lost.
			_ = g.(*guest).monitor.do(commandLimit, "quit")
			<-g.(*guest).Gone()
			if after, err := g.(vm.Measured).PCRs(t.Context(), bank); err != nil || !bytes.Equal(after[7], values[7]) {
				t.Errorf("after the machine's end: PCR 7 is %x, %v", after[7], err)
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "tpm")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the TPM's state is still there: %v", err)
			}
		})
	}
}

// A TPM that dies is the host's fault, and says what became of it.
func TestTPMDies(t *testing.T) {
	g, _ := startTPM(t, measuring(t, vm.TPM20))
	measured(t, g)
	pid := g.(*guest).tpm.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := g.Wait()
	if fault.KindOf(err) != fault.Host || !strings.Contains(err.Error(), "swtpm, the machine's TPM, ended on its own: signal 9 (killed)") {
		t.Errorf("%v (%v)", err, fault.KindOf(err))
	}
}

func TestNoSwtpm(t *testing.T) {
	m := measuring(t, vm.TPM20)
	qemu, err := new(Backend).binary(m.Arch)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	err = (&Backend{Binary: qemu}).Preflight(t.Context(), m)
	if fault.KindOf(err) != fault.Host {
		t.Fatalf("%v; want a host fault", err)
	}
	if remedy := fault.Chain(err)[0].Remedy; !strings.Contains(remedy, "apt-get install swtpm") {
		t.Errorf("remedy %q", remedy)
	}
}
