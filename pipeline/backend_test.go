package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
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
	d.err = errors.New("no answer")
	if _, err := h.recorded(t.Context()); !errors.Is(err, d.err) {
		t.Errorf("of a daemon that does not answer: %v", err)
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
