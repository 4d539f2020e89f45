package rom_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom"
	"github.com/belljar/belljar/rom/romtest"
)

const kib = 1 << 10

// jump is the end of an x86 ROM: its reset vector.
var jump = []byte{0x90, 0x90, 0xe9, 0x5b, 0xff, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90}

// firmware is a ROM without a container: texts in it, and a reset vector.
func firmware(size int, text string) []byte {
	b := make([]byte, size)
	copy(b[size/2:], text)
	copy(b[size-16:], jump)
	return b
}

var q35 = romtest.Block{Version: "4.15-belljar", Vendor: "Emulation", Part: "QEMU x86 q35/ich9"}

// stages are all that a coreboot needs, with that payload.
func stages(payload ...romtest.Segment) []romtest.File {
	entry := uint64(0x100000)
	if len(payload) == len(linux) {
		entry = 0x40000 // of the trampoline
	}
	return []romtest.File{
		{Name: "fallback/romstage", Type: romtest.Stage, Data: []byte("romstage")},
		{Name: "fallback/ramstage", Type: romtest.Stage, Data: packed("ramstage"), Attributes: romtest.Compression(1, 8)},
		{Name: "fallback/payload", Type: romtest.Payload, Data: romtest.Segments(entry, payload...)},
	}
}

func packed(text string) []byte {
	var b bytes.Buffer
	w, err := lzma.WriterConfig{Size: int64(len(text)), SizeInHeader: true}.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

func code(text string) romtest.Segment {
	return romtest.Segment{Kind: "CODE", Compression: 1, Load: 0x100000, Data: packed(text), Memory: len(text)}
}

var seabios = code("SeaBIOS (version %s)\x00\x001.16.2-belljar\x00")

func open(t *testing.T, data []byte) *rom.Image {
	t.Helper()
	m, err := rom.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOpen(t *testing.T) {
	vars, ffs := romtest.Volume(romtest.NVData, 0x4000), romtest.Volume(romtest.FFS2, 0x10000)
	ovmf := append(ffs[:len(ffs)-48:len(ffs)-48], romtest.OVMFEnd()...)
	otherUEFI := append(ffs[:len(ffs)-16:len(ffs)-16], jump...)
	option := append([]byte{0x55, 0xaa, 1, 0xff}, make([]byte, 508)...)
	option[511] = 1 // the sum is 0
	i440fx := q35
	i440fx.Part = "QEMU x86 i440fx/piix4"
	real := romtest.Block{Version: "24.02.01", Vendor: "LENOVO", Part: "ThinkPad X230"}
	for _, c := range []struct {
		name string
		data []byte
		want string // kind, version, profile, machine
	}{
		{"coreboot", romtest.Coreboot(64*kib, q35, stages(seabios)...), "coreboot 4.15-belljar coreboot pc-q35-6.2"},
		{"coreboot for the older machine", romtest.Coreboot(64*kib, i440fx, stages(seabios)...), "coreboot 4.15-belljar coreboot pc-i440fx-6.2"},
		{"coreboot with Linux", romtest.Coreboot(64*kib, q35, stages(linux...)...), "coreboot 4.15-belljar linuxboot pc-q35-6.2"},
		{"coreboot with Heads", romtest.Coreboot(64*kib, q35, stages(heads()...)...), "coreboot 4.15-belljar heads pc-q35-6.2"},
		{"coreboot for a board", romtest.Coreboot(64*kib, real, stages(heads()...)...), "coreboot 24.02.01 heads -"},
		{"coreboot with a part number of its own",
			romtest.Coreboot(64*kib, real, append(stages(seabios), romtest.File{Name: "config", Data: []byte("CONFIG_BOARD_EMULATION_QEMU_X86_Q35=y\n")})...),
			"coreboot 24.02.01 coreboot pc-q35-6.2"},
		{"coreboot that says who it is in CBFS alone",
			romtest.Coreboot(64*kib, romtest.Block{}, append(stages(seabios), romtest.File{Name: "build_info",
				Data: []byte("COREBOOT_VERSION: 4.11\nMAINBOARD_VENDOR: Emulation\nMAINBOARD_PART_NUMBER: QEMU x86 q35/ich9\n")})...),
			"coreboot 4.11 coreboot pc-q35-6.2"},
		{"OVMF in one", append(bytes.Clone(vars), ovmf...), "uefi - ovmf pc-q35-6.2"},
		{"OVMF's code", ovmf, "uefi - ovmf pc-q35-6.2"},
		{"OVMF's variables", vars, "uefi - - -"},
		{"other UEFI", otherUEFI, "uefi - - -"},
		{"SeaBIOS", firmware(128*kib, "SeaBIOS (version %s)\n\x00x\x00rel-1.16.3-0-ga6ed6b7\x00"), "seabios rel-1.16.3-0-ga6ed6b7 seabios pc-i440fx-6.2"},
		{"U-Boot", firmware(1024*kib, "U-Boot 2023.01+dfsg-2 (Jun 22 2026)"), "u-boot 2023.01+dfsg-2 u-boot pc-i440fx-6.2"},
		{"a card's", option, "option ROM - - -"},
		{"something else", firmware(64*kib, "boot me"), "unknown - - -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t, c.data)
			got := []string{string(m.Kind), m.Version, m.Profile, m.Machine}
			for i := range got {
				if got[i] == "" {
					got[i] = "-"
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
			if len(m.Problems) > 0 || m.Why == "" || m.Size != int64(len(c.data)) || len(m.SHA256) != 2*sha256.Size {
				t.Errorf("%+v", m)
			}
		})
	}
}

// linux are the parts of a Linux payload, where cbfstool puts them.
var linux = []romtest.Segment{
	{Kind: "DATA", Load: 0x90000, Data: make([]byte, 16), Memory: 16},
	code("a kernel"),
	{Kind: "DATA", Load: 0x91000, Data: []byte("console=ttyS0\x00"), Memory: 14},
	{Kind: "DATA", Load: 64 << 20, Data: []byte("an initrd"), Memory: 9},
}

// heads are those parts with an initrd as Heads packs it.
func heads() []romtest.Segment {
	var b bytes.Buffer
	w, err := xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte("070701…bin/cbfs-init\x00"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	parts := slices.Clone(linux)
	parts[3].Data, parts[3].Memory = b.Bytes(), b.Len()
	return parts
}

func TestPayload(t *testing.T) {
	for _, c := range []struct {
		name     string
		segments []romtest.Segment
		want     rom.Payload
	}{
		{"SeaBIOS", []romtest.Segment{seabios}, rom.Payload{Kind: rom.PayloadSeaBIOS, Version: "1.16.2-belljar"}},
		{"U-Boot", []romtest.Segment{code("U-Boot 2024.01 (now)")}, rom.Payload{Kind: rom.PayloadUBoot, Version: "2024.01"}},
		{"GRUB", []romtest.Segment{code("x"), code("Welcome to GRUB!\n")}, rom.Payload{Kind: rom.PayloadGRUB}},
		{"TianoCore", []romtest.Segment{code(string(romtest.Volume(romtest.FFS2, 0x100)))}, rom.Payload{Kind: rom.PayloadUEFI}},
		{"Linux", linux, rom.Payload{Kind: rom.PayloadLinux, CommandLine: "console=ttyS0", Initrd: 9}},
		{"other", []romtest.Segment{code("hello")}, rom.Payload{Kind: rom.PayloadUnknown}},
		{"zeros that are not stored", []romtest.Segment{{Kind: "CODE", Compression: 1, Data: seabios.Data, Memory: 1 << 20}},
			rom.Payload{Kind: rom.PayloadSeaBIOS, Version: "1.16.2-belljar"}},
		{"a command line alone is no Linux", linux[1:], rom.Payload{Kind: rom.PayloadUnknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t, romtest.Coreboot(64*kib, q35, stages(c.segments...)...))
			if d := cmp.Diff(&c.want, m.Payload); d != "" || len(m.Problems) > 0 {
				t.Error(d, m.Problems)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	sound := romtest.Coreboot(64*kib, q35, stages(seabios)...)
	in := func(what string, at int) int { return bytes.Index(sound, []byte(what)) + at }
	change := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 0xff; return b }
	}
	without := func(names ...string) func([]byte) []byte {
		return func([]byte) []byte {
			files := slices.DeleteFunc(stages(seabios), func(f romtest.File) bool { return slices.Contains(names, f.Name) })
			return romtest.Coreboot(64*kib, q35, files...)
		}
	}
	sum := sha256.Sum256([]byte("other"))
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"cut in half", func(b []byte) []byte { return b[:32*kib] }, "its flash map is of a ROM of 65536 bytes, and the file has 32768"},
		{"cut: the area", func(b []byte) []byte { return b[:32*kib] }, "area COREBOOT ends at 0x10000, and the file at 0x8000"},
		{"cut to an odd length", func(b []byte) []byte { return b[:1000] }, "its 1000 bytes are no multiple of 64 KiB"},
		{"no reset vector", change(64*kib - 16), "its last 16 bytes are 16 00 f0"},
		{"erased reset vector", func(b []byte) []byte { return append(b[:len(b)-16], bytes.Repeat([]byte{0xff}, 16)...) }, "want a jump"},
		{"magic", change(in("fallback/romstage", -24)), "CBFS has no fallback/romstage: coreboot stops with 'Couldn't load romstage.'"},
		{"magic: the gap", change(in("fallback/romstage", -24)), "CBFS: at 0x200: no LARCHIVE, and none in the 0x40 bytes"},
		{"no ramstage", without("fallback/ramstage"), "coreboot stops with 'Ramstage was not loaded!'"},
		{"no payload", without("fallback/payload"), "coreboot stops with 'Payload not loaded.'"},
		{"compressed ramstage", change(in("fallback/ramstage", 68)), "fallback/ramstage"},
		{"unpacks to another size", func([]byte) []byte {
			files := stages(seabios)
			files[1].Attributes = romtest.Compression(1, 9)
			return romtest.Coreboot(64*kib, q35, files...)
		}, "fallback/ramstage unpacks to 8 bytes, want 9"},
		{"compressed payload", change(in("CODE", 28*2+20)), "a segment of fallback/payload"},
		{"payload's segments", change(in("CODE", 0)), `a segment of fallback/payload of kind "\xbcODE"`},
		{"hash", func([]byte) []byte {
			files := stages(seabios)
			files[0].Attributes = romtest.Hash(2, sum[:])
			return romtest.Coreboot(64*kib, q35, files...)
		}, "the data of fallback/romstage is not what its SHA256 says"},
		{"map without its area", func(b []byte) []byte { return bytes.Replace(b, []byte("COREBOOT"), []byte("COREBOOK"), 1) }, "its flash map has no area COREBOOT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t, c.damage(bytes.Clone(sound)))
			if !slices.ContainsFunc(m.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("problems %q, want %s", m.Problems, c.want)
			}
		})
	}
}

func TestOpenBad(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "three bytes": []byte("abc")} {
		_, err := rom.Open(bytes.NewReader(data), int64(len(data)))
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "want from 512 to") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rom.Open(bytes.NewReader(make([]byte, 600)), 1<<40); fault.KindOf(err) != fault.Input {
		t.Errorf("too large: %v", err)
	}
	if _, err := rom.Open(bytes.NewReader(make([]byte, 600)), 700); fault.KindOf(err) != fault.Host {
		t.Errorf("a file that shrank: %v", err)
	}
}

// FuzzOpen says of any bytes what they are; none is so damaged that only a fault of the host is left.
func FuzzOpen(f *testing.F) {
	f.Add(romtest.Coreboot(4*kib, q35, stages(seabios)...))
	f.Add(romtest.Coreboot(4*kib, q35, stages(linux...)...))
	f.Add(append(romtest.Volume(romtest.NVData, 0x200), romtest.OVMFEnd()...))
	f.Add(firmware(kib, "SeaBIOS (version %s)\n\x00x\x001.16.3\x00"))
	f.Add(firmware(kib, "U-Boot 2023.01+dfsg-2 (Jun"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := rom.Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		if m.Why == "" || m.Kind == "" || m.Profile == "" && m.Machine != "" {
			t.Fatalf("%+v", m)
		}
	})
}
