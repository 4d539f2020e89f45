package libvirt

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// at is where a machine's files lie in the golden files.
func at(m vm.Machine) Place {
	p := Place{Name: "belljar.0a1b2c3d.20240101-000000-x-0000.4e5f6071"}
	put := func(from, what string) string {
		if from == "" {
			return ""
		}
		return "/pool/" + p.Name + "." + what
	}
	p.Kernel, p.Initrd, p.ROM = put(m.Boot.Kernel, "kernel"), put(m.Boot.Initrd, "initrd"), put(m.Boot.ROM, "rom")
	p.Vars = put(m.Boot.Vars, "vars")
	for _, d := range m.Disks {
		p.Disks = append(p.Disks, put(d.Path, "disk-"+d.Serial))
	}
	return p
}

func TestDomainXMLGolden(t *testing.T) {
	for name, m := range vmtest.Machines() {
		t.Run(name, func(t *testing.T) {
			got, err := DomainXML(m, at(m))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "golden", name+".xml")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got; rewrite with -update):\n%s", path, diff)
			}
		})
	}
}

// The seal rests on these: no machine, whatever else it has, may have a way out, or what libvirt adds by itself.
func TestDomainXMLSeal(t *testing.T) {
	for name, m := range vmtest.Machines() {
		text, err := DomainXML(m, at(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`<controller type="usb" model="none"/>`, `<memballoon model="none"/>`, `<timer name="rtc" track="guest"/>`,
			`fallback="forbid"`, `<on_poweroff>destroy<`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %s", name, want)
			}
		}
		for _, never := range []string{"<interface", "<filesystem", "<graphics", "<hostdev", "<redirdev", "host-passthrough"} {
			if strings.Contains(text, never) {
				t.Errorf("%s: %s", name, never)
			}
		}
	}
}

// What a machine is called and what its kernel is told may hold anything.
func TestDomainXMLEscapes(t *testing.T) {
	m := vmtest.Machines()["build-x86_64"]
	m.Name, m.Boot.Cmdline = `a <b> & "c"`, `x='<&>' y="]]>" ü`
	text, err := DomainXML(m, at(m))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Title   string `xml:"title"`
		Cmdline string `xml:"os>cmdline"`
	}
	if err := xml.Unmarshal([]byte(text), &got); err != nil || got.Title != m.Name || got.Cmdline != m.Boot.Cmdline {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDomainXMLRefuses(t *testing.T) {
	m := vmtest.Machines()["build-x86_64"]
	place := at(m)
	m.CPUs = 0
	if _, err := DomainXML(m, place); !fieldIs(err, "CPUs") {
		t.Errorf("a machine without a CPU: %v", err)
	}
	m.CPUs = 1
	place.Disks = place.Disks[1:]
	if _, err := DomainXML(m, place); err == nil {
		t.Error("a disk without a place: nil, want an error")
	}
	m.Disks = nil
	for i := range 40 {
		m.Disks = append(m.Disks, vm.Disk{Serial: fmt.Sprintf("d%d", i), Path: "/x", Bus: vm.BusVirtio})
	}
	if _, err := DomainXML(m, at(m)); err == nil || !strings.Contains(err.Error(), "PCI slots") {
		t.Errorf("40 disks: %v, want a word on PCI slots", err)
	}
}

func fieldIs(err error, field string) bool {
	e, ok := errors.AsType[*vm.FieldError](err)
	return ok && e.Field == field
}

// What only vm/qemu offers is refused before anything is started, with what it was.
func TestDomainXMLKnowsItsLimits(t *testing.T) {
	want := map[string]string{
		"smoke-tpm2": "machine.TPM", "smoke-tpm12": "machine.TPM", "smoke-input": "machine.Input", "smoke-usb": "machine.Disks[0].Bus", "run-vnc": "machine.VNC",
	}
	for name, m := range vmtest.QEMUMachines() {
		if _, err := DomainXML(m, at(m)); err == nil || !strings.Contains(err.Error(), want[name]) {
			t.Errorf("%s: error %v, want one that names %q", name, err, want[name])
		}
	}
}
