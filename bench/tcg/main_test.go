package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every variant's script hands on the arguments that it does not mean, word by word, and names the machine.
func TestScripts(t *testing.T) {
	given := []string{
		"-name", "guest", "-machine", "pc-q35-6.2", "-accel", "tcg,thread=multi", "-cpu", "Nehalem-v1,enforce", "-smp", "2", "-m", "2048M",
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off nowatchdog", "-blockdev", "driver=raw,file.filename=/a b'c,file.aio=threads",
		"-device", "virtio-blk-pci,drive=disk0", "-device", "virtio-serial-pci,id=ports,max_ports=31", "-S",
	}
	want := map[string][]string{
		"thread-single": {"-accel\ntcg,thread=single"},
		"tb-64":         {"-accel\ntcg,thread=multi,tb-size=64"},
		"queues-1":      {"virtio-blk-pci,drive=disk0,num-queues=1"},
		"aio-uring":     {"file.aio=io_uring"},
		"k-mitigations": {"console=ttyS0 quiet panic=-1 nowatchdog"},
		"k-audit":       {"panic=-1 mitigations=off nowatchdog audit=0"},
		"memfd":         {"-object\nmemory-backend-memfd,id=ram,size=2048M\n", "pc-q35-6.2,memory-backend=ram"},
		"no-ioeventfd":  {"disk0,ioeventfd=off", "max_ports=31,ioeventfd=off"},
		"ports-2":       {"max_ports=2"},
	}
	dir := t.TempDir()
	echo := filepath.Join(dir, "echo it's")
	if err := os.WriteFile(echo, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		script := filepath.Join(dir, v.name)
		if err := os.WriteFile(script, []byte(v.script(echo, "a mark")), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(script, given...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", v.name, err, out)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		for _, w := range want[v.name] {
			if !strings.Contains(string(out), w) {
				t.Errorf("%s: no %q in\n%s", v.name, w, out)
			}
		}
		expected := slices.Clone(given)
		expected[1] = "a mark"
		if same := slices.Equal(got, expected); same != (v.name == asIs) {
			t.Errorf("%s changes nothing:\n%s", v.name, out)
		}
	}
}
