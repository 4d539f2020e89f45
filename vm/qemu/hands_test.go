package qemu

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/vmtest"
)

// A console that takes input says each byte once, however fast they come.
func TestConsoleWithInput(t *testing.T) {
	var said strings.Builder
	for i := 0; said.Len() < 31_000; i++ {
		fmt.Fprintf(&said, "%d ", i)
	}
	g := boot(t, func(dir string) vm.Machine {
		m := romMachine(t, dir, "pc-q35-6.2", said.String(), vmtest.PowerOff)
		m.Input, m.DebugCon = true, false
		return m
	})
	got, err := io.ReadAll(g.Console())
	if err != nil {
		t.Fatal(err)
	}
	if want := said.String() + "\n"; string(got) != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%d bytes, want %d; from byte %d on it is %.40q, want %.40q", len(got), len(want), at, got[at:], want[at:])
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
