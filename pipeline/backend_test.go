package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
	"github.com/belljar/belljar/vm/smoke"
)

// daemonVMs is a fake backend whose machines a daemon runs, on whose host something lies.
type daemonVMs struct {
	fakeVMs
	host vm.Host
	left []string
	err  error
}

func (d *daemonVMs) Host(context.Context) (vm.Host, error) { return d.host, d.err }
func (d *daemonVMs) Sweep(context.Context) ([]string, error) {
	left := d.left
	d.left = nil
	return left, d.err
}

// The record tells which backend ran the machines and what kind of host, and nothing that names it.
func TestRecordedBackend(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	got, err := h.recorded(t.Context())
	if err != nil || got != (verify.Backend{Name: "qemu"}) {
		t.Errorf("of a backend without a daemon: %+v, %v", got, err)
	}
	d := &daemonVMs{fakeVMs: playing(fake.Script{}), host: vm.Host{
		Daemon: "libvirt", Version: "9.0.0", Transport: "ssh", UUID: "5b0d1cd9", Arch: "x86_64", CPUs: 8,
		Memory: 1 << 34, Pool: "secret-pool", Free: 1 << 40,
	}}
	h.backend = d
	got, err = h.recorded(t.Context())
	want := verify.Backend{Name: "libvirt", Version: "9.0.0", Transport: "ssh", Arch: "x86_64", CPUs: 8}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	h.Connect = "qemu+ssh://me@host/system"
	v := namedVerdict{Verdict: &smoke.Verdict{CommandLine: "virsh -c 'qemu+ssh://me@host/system' create x.xml"}}
	if got := h.smokeEvidence(v).CommandLine; got != "virsh -c 'URI' create x.xml" {
		t.Errorf("the command line of a smoke test: %q", got)
	}
	d.err = errors.New("no answer")
	if _, err := h.recorded(t.Context()); !errors.Is(err, d.err) {
		t.Errorf("of a daemon that does not answer: %v", err)
	}
}

// What was proven of another host's KVM counts for that host as that daemon has it, and for a day.
func TestProvenOn(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	h.Connect = "qemu:///system"
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	there := vm.Host{Daemon: "libvirt", Version: "9.0.0", UUID: "5b0d1cd9"}
	first := h.provenOn(there, noon)
	if again := h.provenOn(there, noon.Add(time.Hour)); again != first {
		t.Errorf("an hour later: %q, before %q", again, first)
	}
	tomorrow := h.provenOn(there, noon.Add(24*time.Hour))
	h.Connect = "qemu:///session"
	session := h.provenOn(there, noon)
	there.Version = "9.0.1"
	if all := map[string]bool{first: true, tomorrow: true, session: true, h.provenOn(there, noon): true}; len(all) != 4 {
		t.Errorf("not told apart: %v", all)
	}
}

// A new run sweeps the host of its machines, says so, and does not begin where that host does not answer.
func TestNewRunSweeps(t *testing.T) {
	h, said := newHouse(t, fake.Script{})
	d := &daemonVMs{fakeVMs: playing(fake.Script{}), left: []string{"volume of run x"}}
	h.backend = d
	for range 2 {
		run, err := h.newRun(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Finish(vm.Passed, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := said.texts(Note); strings.Count(got, "volume of run x") != 1 {
		t.Errorf("notes are %q, want one of the volume", got)
	}
	d.err = errors.New("no answer")
	if _, err := h.newRun(t.Context(), "test"); !errors.Is(err, d.err) {
		t.Errorf("of a host that does not answer: %v", err)
	}
	if all, err := h.runs.List(); err != nil || len(all) != 2 {
		t.Errorf("%d runs, %v: want the two that began", len(all), err)
	}
}

// Doctor asks the daemon, not this host, and says what there is too little of.
func TestDoctorElsewhere(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	h.Connect = "qemu+ssh://host/system"
	loaded, err := specs.Load(doctorSpec)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemonVMs{fakeVMs: playing(fake.Script{}), err: fault.New(fault.Host, "connect to libvirt", "refused").WithRemedy("start it")}
	h.backend = d
	all, err := h.checkMachines(t.Context(), loaded)
	want := []Check{{Name: BackendLibvirt, State: CheckNo, Text: "connect to libvirt: refused", Remedy: "start it"}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("no daemon: %v (-want +got):\n%s", err, diff)
	}
	there := vm.Host{Daemon: "libvirt", Version: "9.0.0", Arch: "x86_64", Pool: "big"}
	if c := h.checkDaemon(there); c.State != CheckOK || c.Text != "version 9.0.0 on x86_64, at qemu+ssh://host/system" {
		t.Errorf("%+v", c)
	}
	for free, state := range map[int64]string{1 << 30: CheckNo, 4 << 30: CheckWarn, 100 << 30: CheckOK} {
		there.Free = free
		if c := checkPool(there); c.State != state || (c.Remedy == "") != (state == CheckOK) {
			t.Errorf("%d bytes free: %+v, want %s", free, c, state)
		}
	}
	for memory, state := range map[int64]string{1 << 30: CheckNo, 64 << 30: CheckOK} {
		there.Memory = memory
		if c := checkMemoryThere(loaded, there); c.State != state || (c.Remedy == "") != (state == CheckOK) {
			t.Errorf("%d bytes of memory: %+v, want %s", memory, c, state)
		}
	}
}
