package smoke

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

// withVector is a ROM of 64 KiB of int3 with these last 16 bytes.
func withVector(vector ...byte) []byte {
	rom := bytes.Repeat([]byte{0xcc}, 64<<10)
	copy(rom[len(rom)-16:], append(vector, make([]byte, 16-len(vector))...))
	return rom
}

func TestHint(t *testing.T) {
	hole := withVector(0xe9, 0x0d, 0x10) // fff0+3+100d wraps round to 1000
	copy(hole[0x1000:], []byte{0xff, 0xff, 0xff, 0xff})
	for _, c := range []struct {
		name string
		rom  []byte
		want string // part of the hint; empty for none
	}{
		{"near jump, as coreboot has it", withVector(0xe9, 0x43, 0xff), ""},
		{"near jump that wraps round", withVector(0xe9, 0x0d, 0x10), ""},
		{"near jump into erased flash", hole, "offset 0x1000, where there is no code (ff ff ff ff)"},
		{"short jump", withVector(0xeb, 0xce), ""},
		{"nops first, as OVMF has them", withVector(0x90, 0x90, 0xe9, 0x43, 0xff), ""},
		{"far jump, as SeaBIOS has it", withVector(0xea, 0x5b, 0xe0, 0x00, 0xf0), ""},
		{"far jump out of the ROM", withVector(0xea, 0x5b, 0xe0, 0x00, 0x0f), "jumps out of the ROM"},
		{"wbinvd first: no guess", withVector(0x0f, 0x09, 0xe9), ""},
		{"zeros", withVector(), "does not begin with a jump"},
		{"text", withVector([]byte("not a jump")...), "does not begin with a jump"},
		{"nothing but nops", withVector(bytes.Repeat([]byte{0x90}, 16)...), "does not begin with a jump"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := hint(c.rom)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("hint %q, want %q", got, c.want)
			}
		})
	}
}

func TestTakeROM(t *testing.T) {
	dir := t.TempDir()
	rom := withVector(0xe9, 0x43, 0xff)
	from, to := filepath.Join(dir, "a.rom"), filepath.Join(dir, "copy.rom")
	if err := os.WriteFile(from, rom, 0o644); err != nil {
		t.Fatal(err)
	}
	got, unfit, err := takeROM(from, to, false)
	if err != nil || unfit != "" {
		t.Fatal(unfit, err)
	}
	sum := sha256.Sum256(rom)
	if got.SHA256 != hex.EncodeToString(sum[:]) || got.Size != 64<<10 || got.Path != from {
		t.Errorf("%+v", got)
	}
	if copied, _ := os.ReadFile(to); !bytes.Equal(copied, rom) {
		t.Error("the copy differs")
	}
	if _, _, err := takeROM(filepath.Join(dir, "absent"), to, false); fault.KindOf(err) != fault.Host {
		t.Errorf("absent file: %v, want a host fault", err)
	}
}

func TestTooLargeROMIsHashedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.rom")
	rom := bytes.Repeat([]byte("belljar "), (romLimit+romUnit)/8)
	if err := os.WriteFile(path, rom, 0o644); err != nil {
		t.Fatal(err)
	}
	got, unfit, err := takeROM(path, path+".copy", false)
	sum := sha256.Sum256(rom)
	if err != nil || unfit == "" || got.Size != romLimit+romUnit || got.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%+v, %q, %v", got, unfit, err)
	}
}

// FuzzInspect: whatever bytes a ROM has, looking at them neither panics nor fails a ROM without a reason.
func FuzzInspect(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xea, 0x5b, 0xe0, 0x00, 0xf0})
	f.Add([]byte{0xe9, 0xff, 0xff})
	f.Add([]byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xea, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, end []byte) {
		if len(end) > romUnit {
			end = end[:romUnit]
		}
		rom := bytes.Repeat([]byte{0xcc}, romUnit)
		copy(rom[romUnit-len(end):], end)
		if reason := inspect(rom, "x", false); reason == "" {
			hint(rom)
		} else if !filledWith(rom, 0xff) && !filledWith(rom, 0) {
			t.Errorf("refused: %s", reason)
		}
		if len(end)%romUnit != 0 && inspect(end, "x", false) == "" {
			t.Errorf("%d bytes pass for a ROM", len(end))
		}
	})
}
