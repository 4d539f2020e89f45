package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A damaged ROM fails its smoke test, for a reason that a person understands.
func TestDamagedROM(t *testing.T) {
	needMachines(t)
	good := rom(t)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-16] ^= 0x80 // the first byte that the CPU executes: the opcode of a jump
	for _, c := range []struct {
		name string
		data []byte
		code int
		says []string
	}{
		{"undamaged", good, 0, []string{"pass rom.bin, i440fx", "pass rom.bin, q35"}},
		{"one byte flipped in the reset path", flipped, 7, []string{"nothing at all came on the serial console", "reset vector"}},
		{"cut to half", good[:len(good)/2], 7, []string{"nothing at all came on the serial console"}},
		{"cut to an odd length", good[:100_001], 7, []string{"100001 bytes", "no multiple of 64 KiB", "cut short"}},
		{"empty", nil, 7, []string{"is empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := onShared(t)
			path := filepath.Join(b.cwd, "rom.bin")
			must(t, os.WriteFile(path, c.data, 0o644))
			o := b.exit(c.code, "smoke", "seabios", path, "--accel", "tcg", "--timeout", "2s")
			contains(t, "output", o.stdout+o.stderr, c.says...)
		})
	}
}

// A build whose ROM does not boot hands nothing over.
func TestQuarantine(t *testing.T) {
	needMachines(t)
	runScripts(t, "quarantine.txtar")
}
