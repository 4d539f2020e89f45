package qemu

import (
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// machines are all that there are.
func machines() map[string]vm.Machine {
	all := vmtest.Machines()
	maps.Copy(all, vmtest.QEMUMachines())
	return all
}

func TestArgsGolden(t *testing.T) {
	for name, m := range machines() {
		for mode, suffix := range map[Mode]string{Run: "", ByHand: "-by-hand"} {
			t.Run(name+suffix, func(t *testing.T) {
				got, err := Args(m, mode)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata", "golden", name+suffix+".txt"), oneFlagALine(got))
			})
		}
	}
}

// A machine that goes on from a state is the one that was saved: nothing but the last flag differs.
func TestArgsIncoming(t *testing.T) {
	for name, m := range machines() {
		run, err := Args(m, Run)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Args(m, Incoming)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append(run, "-incoming", "defer"), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// oneFlagALine is a list as a diff shows it best.
func oneFlagALine(args []string) string {
	var b strings.Builder
	for i, a := range args {
		switch {
		case i == 0:
		case strings.HasPrefix(a, "-"):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(Quote([]string{a}))
	}
	return b.String() + "\n"
}

func golden(t *testing.T, path, got string) {
	t.Helper()
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
}

// The seal rests on these: no machine, whatever else it has, may come without them.
func TestArgsSeal(t *testing.T) {
	for name, m := range machines() {
		args, err := Args(m, Run)
		if err != nil {
			t.Fatal(err)
		}
		all := " " + strings.Join(args, " ") + " "
		for _, want := range []string{" -nic none ", " -nodefaults ", " -no-user-config ", "spawn=deny"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %q in %s", name, want, all)
			}
		}
		for _, never := range []string{"netdev", "virtio-net", "e1000", "-cpu host", "virtfs", "9p", "hostfwd"} {
			if strings.Contains(all, never) {
				t.Errorf("%s: %q in %s", name, never, all)
			}
		}
	}
}

func TestArgsWrongMachine(t *testing.T) {
	for field, spoil := range map[string]func(*vm.Machine){
		"Name":              func(m *vm.Machine) { m.Name = "a,b" },
		"Arch":              func(m *vm.Machine) { m.Arch = "amd64" },
		"Type":              func(m *vm.Machine) { m.Type = "q35" },
		"CPU":               func(m *vm.Machine) { m.CPU = "host" },
		"CPUs":              func(m *vm.Machine) { m.CPUs = 0 },
		"Memory":            func(m *vm.Machine) { m.Memory++ },
		"Clock":             func(m *vm.Machine) { m.Clock = time.Time{} },
		"Accel":             func(m *vm.Machine) { m.Accel = vm.Auto },
		"OnReset":           func(m *vm.Machine) { m.OnReset = "stop" },
		"Boot.Vars":         func(m *vm.Machine) { m.Boot.ROM, m.Boot.Vars = "/x", "/y" },
		"Boot.Initrd":       func(m *vm.Machine) { m.Boot.Kernel = "" },
		"Boot.Cmdline":      func(m *vm.Machine) { m.Boot.Cmdline = "a\nb" },
		"Disks[1].Serial":   func(m *vm.Machine) { m.Disks[1].Serial = "root" },
		"Disks[2].Serial":   func(m *vm.Machine) { m.Disks[2].Serial = "more-than-twenty-bytes" },
		"Disks[0].Bus":      func(m *vm.Machine) { m.Disks[0].Bus = "scsi" },
		"Disks[0].Path":     func(m *vm.Machine) { m.Disks[0].Path = "" },
		"Disks[0].ReadOnly": func(m *vm.Machine) { m.Disks[0].Bus = vm.BusIDE },
		"Ports[0]":          func(m *vm.Machine) { m.Ports[0] = "a,server=on" },
		"Ports[1]":          func(m *vm.Machine) { m.Ports = []string{"a", "a"} },
	} {
		t.Run(field, func(t *testing.T) {
			m := vmtest.Machines()["build-x86_64"]
			spoil(&m)
			_, err := Args(m, Run)
			wrong, ok := errors.AsType[*vm.FieldError](err)
			if !ok || wrong.Field != field {
				t.Errorf("args: %v, want a *vm.FieldError on %s", err, field)
			}
		})
	}
}

func TestArgsCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		list []string
		want string // part of the error; empty is none
	}{
		{"fine", []string{"-m", "1M", "-S", "-device", "a,id=x", "-device", "b,id=y"}, ""},
		{"duplicate flag", []string{"-m", "1M", "-S", "-m", "2M"}, "flag -m stands twice"},
		{"duplicate flag without value", []string{"-S", "-S"}, "flag -S stands twice"},
		{"duplicate id", []string{"-chardev", "file,id=x", "-chardev", "file,id=x"}, "id x stands twice"},
		{"no value", []string{"-S", "-m"}, "flag -m has no value"},
		{"stray word", []string{"-S", "1M"}, `"1M" stands where a flag should`},
		{"a value like a flag", []string{"-append", "-m", "-m", "1M"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&args{list: c.list}).check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("check: %v, want %q", err, c.want)
			}
		})
	}
}

// What Quote writes, a shell reads as the same words.
func TestQuote(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", "$HOME", "a\\b", "`x`", "*", "ü", "-x,y=z", "a\nb"}
	out, err := exec.Command("sh", "-c", "printf '%s\\0' "+Quote(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Join(words, "\x00")+"\x00", string(out)); diff != "" {
		t.Error(diff)
	}
}
