package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// builtROM builds a shipped ROM, or finds it built, and returns its bytes and where they lie.
func builtROM(t *testing.T, spec string) (data []byte, path string) {
	t.Helper()
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("fetches and builds " + spec + "; asked for by BELLJAR_SLOW=1")
	}
	path = onShared(t).buildROM(spec)
	data, err := os.ReadFile(path)
	must(t, err)
	return data, path
}

// buildROM fetches and builds a shipped ROM, or finds it built, and returns where it lies. Nothing may run that is not pinned.
func (b *belljar) buildROM(spec string, args ...string) (path string) {
	b.t.Helper()
	b.succeed("fetch", spec)
	r, took := b.built(append([]string{spec, "--strict"}, args...)...)
	b.t.Logf("%s %s: cached %v, under %s, took %s", spec, strings.Join(args, " "), r.Cached, r.Accel, took.Round(time.Second))
	return r.Artifacts[0].Path
}

// cbfsFile is a file of a coreboot ROM: where its header and its data lie.
type cbfsFile struct {
	Name               string
	Offset, Data, Size int
}

// cbfsFiles are the files of the ROM at path, by their names.
func cbfsFiles(t *testing.T, path string) map[string]cbfsFile {
	t.Helper()
	var r struct{ CBFS []struct{ Files []cbfsFile } }
	onShared(t).succeed("rom", path, "--json").result(t, &r)
	all := map[string]cbfsFile{}
	for _, c := range r.CBFS {
		for _, f := range c.Files {
			all[f.Name] = f
		}
	}
	return all
}

// inverted is a copy in which n bytes from an offset on are others, by that mask.
func inverted(data []byte, at, n int, mask byte) []byte {
	data = bytes.Clone(data)
	for i := range n {
		data[at+i] ^= mask
	}
	return data
}

// Each way of damaging the built coreboot is found out, for its reason.
func TestSlowSmokeDamagedCoreboot(t *testing.T) {
	needMachines(t)
	good, path := builtROM(t, "roms/coreboot-qemu-q35")
	files := cbfsFiles(t, path)
	payload, romstage := files["fallback/payload"], files["fallback/romstage"]
	if payload.Size == 0 || romstage.Size == 0 {
		t.Fatalf("files: %+v", files)
	}
	removed := bytes.Clone(good)
	copy(removed[payload.Offset:payload.Data+payload.Size], bytes.Repeat([]byte{0xff}, payload.Data+payload.Size-payload.Offset))
	bit := inverted(good, romstage.Data+romstage.Size-64, 1, 1) // what stands at its end is read by nothing
	for _, c := range []struct {
		name string
		rom  []byte
		args []string
		says string // empty: it passes
	}{
		{"bootblock: a byte flipped", inverted(good, len(good)-16, 1, 0x80), nil, "the reset vector (last 16 bytes: 69"},
		{"payload: a byte of its header flipped", inverted(good, payload.Offset, 1, 0xff), nil, "‘CBFS: 'fallback/payload' not found.’"},
		{"payload, which is compressed: a byte flipped", inverted(good, payload.Data+payload.Size/2, 1, 0xff), nil, "‘lzma: Decoding error = 1’"},
		{"payload removed", removed, nil, "‘CBFS: 'fallback/payload' not found.’"},
		{"its first half alone", good[:len(good)/2], nil, "nothing at all came on the serial console"},
		{"its second half alone", good[len(good)/2:], nil, "after ‘Cannot locate primary CBFS’"},
		{"64 KiB too long", append(slices.Clip(good), bytes.Repeat([]byte{0xff}, 64<<10)...), nil, "nothing at all came on the serial console"},
		{"cut to an odd length", good[:100_001], nil, "no multiple of 64 KiB"},
		{"empty", nil, nil, "is empty"},
		{"for another machine", good, []string{"--machine", "pc-i440fx-6.2"}, "after ‘You must run qemu for machine Q35 (-M q35)’"},
		{"romstage: a bit flipped, no TPM to see it", bit, nil, ""},
		{"romstage: a bit flipped", bit, []string{"--tpm", "2.0", "--reference", path}, "event 3, FMAP: COREBOOT CBFS: fallback/romstage, is "},
	} {
		t.Run(c.name, func(t *testing.T) {
			damaged(t, c.rom, c.says, append(c.args, "--profile", "coreboot", "--timeout", "6s")...)
		})
	}
}

// The same of the built U-Boot. Its flipped code is in TestSmokeDamagedROMs, of Debian's.
func TestSlowSmokeDamagedUBoot(t *testing.T) {
	needMachines(t)
	good, _ := builtROM(t, "roms/u-boot-qemu-x86")
	for _, c := range []struct {
		name string
		rom  []byte
		says string
	}{
		{"reset path: a byte flipped", inverted(good, len(good)-16, 1, 0xff), "nothing at all came on the serial console"},
		{"its first half alone", good[:len(good)/2], "nothing at all came on the serial console"},
		{"cut to an odd length", good[:100_001], "no multiple of 64 KiB"},
		{"empty", nil, "is empty"},
	} {
		t.Run(c.name, func(t *testing.T) { damaged(t, c.rom, c.says, "--profile", "u-boot", "--timeout", "6s") })
	}
}

// damaged boots a ROM that must fail and say so, or pass if nothing is to be said.
func damaged(t *testing.T, rom []byte, says string, args ...string) {
	t.Helper()
	t.Parallel()
	b := onShared(t)
	path := filepath.Join(b.cwd, "rom.bin")
	must(t, os.WriteFile(path, rom, 0o644))
	code := 7
	if says == "" {
		code = 0
	}
	o := b.exit(code, append([]string{"smoke", path, "--json"}, args...)...)
	if v := verdicts(t, o.stdout)[0]; v.Pass != (says == "") || !strings.Contains(v.Text, says) {
		t.Errorf("pass %v, %q; want %q", v.Pass, v.Text, says)
	}
}

// The built ROMs pass again and again, as Debian's do (TestSlowSmokeNoFalseAlarm), coreboot with its measurements.
func TestSlowSmokeBuiltROMsNoFalseAlarm(t *testing.T) {
	needMachines(t)
	for spec, args := range map[string][]string{
		"roms/seabios": nil, "roms/coreboot-qemu-i440fx": nil, "roms/coreboot-qemu-q35": {"--tpm", "2.0"},
		"roms/u-boot-qemu-x86": nil, "roms/u-boot-qemu-x86_64": nil, "roms/ovmf-x64": {"--tpm", "2.0"},
		linuxBootSpec: {"--tpm", "2.0"},
	} {
		t.Run(spec, func(t *testing.T) {
			_, path := builtROM(t, spec)
			o := onShared(t).exit(0, append([]string{"smoke", path, "--count", "20", "--json"}, args...)...)
			if v := verdicts(t, o.stdout)[0]; !v.Pass || v.Spread == nil || v.Spread.Boots != 20 || v.Spread.Passed != 20 {
				t.Errorf("%+v", v)
			}
		})
	}
}
