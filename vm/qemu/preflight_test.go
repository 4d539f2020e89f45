package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright": "7.2.22",
		"QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.26)\n":          "6.2.0",
		"QEMU emulator version 10.0.2\n":                                         "10.0.2",
		"something else":                                                         "",
	} {
		if got := parseVersion(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseMachines(t *testing.T) {
	got := parseMachines("Supported machines are:\n" +
		"microvm              microvm (i386)\n" +
		"pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n" +
		"pc-q35-6.2           Standard PC (Q35 + ICH9, 2009)\nnone                 empty machine\n")
	if diff := cmp.Diff([]string{"microvm", "pc", "pc-q35-6.2", "none"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseModels(t *testing.T) {
	for name, in := range map[string]string{
		"7.2": "Available CPUs:\nx86 486                   (alias configured by machine type)\nx86 486-v1                \n" +
			"x86 Nehalem-v1            Intel Core i7 9xx (Nehalem Class Core i7)\n\nRecognized CPUID flags:\n  3dnow 3dnowext\n",
		"9.1": "Available CPUs:\n  486                   (alias configured by machine type)\n  486-v1\n" +
			"  Nehalem-v1            Intel Core i7 9xx (Nehalem Class Core i7)\n\nRecognized CPUID flags:\n  3dnow 3dnowext\n",
	} {
		if diff := cmp.Diff([]string{"486", "486-v1", "Nehalem-v1"}, parseModels(in)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPreflight(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*vm.Machine)
		kind   fault.Kind
		what   string // in the error
		remedy string // in the remedy
	}{
		{"fine", func(*vm.Machine) {}, 0, "", ""},
		{"wrong field", func(m *vm.Machine) { m.CPUs = -1 }, fault.Usage, "machine.CPUs", ""},
		{"a type of a later QEMU", func(m *vm.Machine) { m.Type = "pc-q35-99.1" }, fault.Host, "pc-q35-99.1", "came with QEMU 99.1"},
		{"a type long dropped", func(m *vm.Machine) { m.Type = "pc-q35-1.4" }, fault.Host, "pc-q35-1.4", "pc-q35-6.2"},
		{"a type of no family", func(m *vm.Machine) { m.Type = "toaster-1.0" }, fault.Host, "toaster-1.0", "-machine help"},
		{"a model's version that is not there", func(m *vm.Machine) { m.CPU = "Nehalem-v77" }, fault.Host, "Nehalem-v77", "Nehalem-v1"},
		{"no such model", func(m *vm.Machine) { m.CPU = "Zuse-v3" }, fault.Host, "Zuse-v3", "-cpu help"},
		{"no such ROM", func(m *vm.Machine) { m.Boot.ROM = "/nonexistent.rom" }, fault.Host, "ROM: open /nonexistent.rom", ""},
		{"no such disk", func(m *vm.Machine) {
			m.Disks = []vm.Disk{{Serial: "root", Path: "/nonexistent.img", Bus: vm.BusVirtio}}
		}, fault.Host, "disk root: open /nonexistent.img", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang)
			c.spoil(&m)
			err := (&Backend{}).Preflight(t.Context(), m)
			if c.what == "" {
				if err != nil {
					t.Errorf("%v, want nil", err)
				}
				return
			}
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != c.kind || !strings.Contains(e.Error(), c.what) || !strings.Contains(e.Remedy, c.remedy) {
				t.Errorf("%v (%s), want a %s with %q and the remedy %q", err, fault.KindOf(err), c.kind, c.what, c.remedy)
			}
		})
	}
}

func TestPreflightWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	m := romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang)
	err := (&Backend{}).Preflight(t.Context(), m)
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Host || !strings.Contains(e.Remedy, "apt-get install qemu-system-x86") {
		t.Errorf("%v, want a host fault with its remedy", err)
	}
}

// Where there is no 32-bit QEMU, the 64-bit one runs the 32-bit machine.
func TestBinaryFallsBack(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, step := range []string{"qemu-system-x86_64", "qemu-system-i386"} {
		path := filepath.Join(dir, step)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := (&Backend{}).binary(vm.I686); err != nil || got != path {
			t.Errorf("binary %q, %v, want %q", got, err, path)
		}
	}
}
