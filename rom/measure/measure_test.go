package measure_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom"
	"github.com/belljar/belljar/rom/measure"
	"github.com/belljar/belljar/rom/romtest"
)

const size = 64 << 10

var (
	// old is a bootblock of 4.15, as far as it tells of measured boot; later versions name files without their area.
	old   = romtest.Block{Text: "CRTM initialized.\n\x00FMAP: %s CBFS: %s", Version: "4.15", Vendor: "Emulation", Part: "QEMU x86 q35/ich9"}
	later = romtest.Block{Text: "CRTM initialized.\n\x00CBFS: %s", Version: "4.22", Vendor: "Emulation", Part: "QEMU x86 q35/ich9"}
)

// stages are a coreboot's, without a postcar if so said.
func stages(but ...string) []romtest.File {
	var all []romtest.File
	for _, f := range []romtest.File{
		{Name: "fallback/romstage", Type: romtest.Stage, Data: []byte("romstage")},
		{Name: "fallback/ramstage", Type: romtest.Stage, Data: []byte("ramstage")},
		{Name: "fallback/postcar", Type: romtest.Stage, Data: []byte("postcar")},
		{Name: "fallback/payload", Type: romtest.Payload, Data: romtest.Segments(0x100000, romtest.Segment{Kind: "CODE", Data: []byte("x"), Memory: 1})},
	} {
		if !slices.Contains(but, strings.TrimPrefix(f.Name, "fallback/")) {
			all = append(all, f)
		}
	}
	return all
}

func file(name, text string) romtest.File { return romtest.File{Name: name, Data: []byte(text)} }

func open(t testing.TB, data []byte) *rom.Image {
	t.Helper()
	m, err := rom.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func predict(t testing.TB, data []byte) *measure.Prediction {
	t.Helper()
	p, err := measure.Predict(open(t, data))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPredict(t *testing.T) {
	const unknown = "its CBFS has no 'config', so it is taken to be built for a TPM 2.0, and SHA-256"
	for _, c := range []struct {
		name  string
		block romtest.Block
		files []romtest.File
		alg   measure.Algorithm
		want  string // the events' names
		notes string
	}{
		{"4.15", old, append(stages(), file("config", "CONFIG_TPM2=y\n")), measure.SHA256, "FMAP: FMAP, FMAP: COREBOOT CBFS: bootblock, FMAP: COREBOOT CBFS: fallback/romstage, " +
			"FMAP: COREBOOT CBFS: fallback/postcar, FMAP: COREBOOT CBFS: fallback/ramstage, FMAP: COREBOOT CBFS: fallback/payload", ""},
		{"later", later, stages(), measure.SHA256,
			"FMAP: FMAP, CBFS: bootblock, CBFS: fallback/romstage, CBFS: fallback/postcar, CBFS: fallback/ramstage, CBFS: fallback/payload", unknown},
		{"without postcar", later, stages("postcar"), measure.SHA256,
			"FMAP: FMAP, CBFS: bootblock, CBFS: fallback/romstage, CBFS: fallback/ramstage, CBFS: fallback/payload", unknown},
		{"by its configuration", romtest.Block{Part: "QEMU q35"}, append(stages("postcar"), file("config", "CONFIG_TPM1=y\nCONFIG_TPM_MEASURED_BOOT=y\n")),
			measure.SHA1, "FMAP: FMAP, CBFS: bootblock, CBFS: fallback/romstage, CBFS: fallback/ramstage, CBFS: fallback/payload",
			`its mainboard is "", which no machine of QEMU is: nobody has tried`},
		{"another bank", later, append(stages("postcar"), file("config", "CONFIG_TPM2=y\nCONFIG_TPM_HASH_SHA384=y\n")), measure.SHA384,
			"FMAP: FMAP, CBFS: bootblock, CBFS: fallback/romstage, CBFS: fallback/ramstage, CBFS: fallback/payload", ""},
		{"a card's ROM", later, append(stages("postcar"), romtest.File{Name: "pci8086,0166.rom", Type: 0x30}, file("etc/x", "for SeaBIOS"), file("config", "CONFIG_TPM2=y\n")), measure.SHA256,
			"FMAP: FMAP, CBFS: bootblock, CBFS: fallback/romstage, CBFS: fallback/ramstage, CBFS: fallback/payload",
			"coreboot may load, and then measures: pci8086,0166.rom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := predict(t, romtest.Coreboot(size, c.block, c.files...))
			var names []string
			for _, e := range p.Events {
				names = append(names, e.Name)
			}
			if got := strings.Join(names, ", "); got != c.want || p.Algorithm != c.alg {
				t.Errorf("%s %s\nwant %s %s", p.Algorithm, got, c.alg, c.want)
			}
			if got := strings.Join(p.Notes, "; "); !strings.HasPrefix(got, c.notes) || (got == "") != (c.notes == "") {
				t.Errorf("notes %q, want %q", got, c.notes)
			}
		})
	}
}

// TestPredictDigests computes each digest and the PCR anew, from what was put into the ROM.
func TestPredictDigests(t *testing.T) {
	data := romtest.Coreboot(size, old, stages()...)
	p := predict(t, data)
	pcr := make([]byte, sha256.Size)
	for i, want := range []string{string(data[:512]), "", "romstage", "postcar", "ramstage", string(stages()[3].Data)} {
		e := p.Events[i]
		if want == "" { // the bootblock: the ROM's end
			want = string(data[e.Offset:])
		}
		sum := sha256.Sum256([]byte(want))
		extended := sha256.Sum256(append(pcr, sum[:]...))
		pcr = extended[:]
		if !bytes.Equal(e.Digest, sum[:]) || !bytes.Equal(e.After, pcr) || e.PCR != 2 || string(data[e.Offset:e.Offset+e.Size]) != want {
			t.Errorf("%+v, want %x, %x", e, sum, pcr)
		}
	}
	if d := cmp.Diff(measure.PCRs{2: pcr}, p.PCRs); d != "" {
		t.Error(d)
	}
	text, err := json.Marshal(measure.PCRs{10: {1}, 2: {0xab}})
	if string(text) != `{"2":"ab","10":"01"}` || err != nil {
		t.Errorf("%s, %v", text, err)
	}
}

func TestPredictBad(t *testing.T) {
	plain := romtest.Block{Version: "4.15", Vendor: "Emulation", Part: "QEMU x86 q35/ich9"}
	whole := romtest.Coreboot(size, old, stages()...)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"no coreboot", bytes.Repeat([]byte{0xff}, size), "it is unknown, want coreboot"},
		{"no measured boot", romtest.Coreboot(size, plain, stages()...), "it was built without measured boot"},
		{"vboot", romtest.Coreboot(size, old, append(stages(), file("config", "CONFIG_VBOOT=y\n"))...), "it has vboot"},
		{"no romstage", romtest.Coreboot(size, old, stages("romstage")...), "CBFS has no fallback/romstage, and its boot ends"},
		{"no payload", romtest.Coreboot(size, old, stages("payload")...), "CBFS has no fallback/payload"},
		{"cut", whole[:size/2], "neither its flash map nor its CBFS has a bootblock"},
		{"no CBFS", bytes.Replace(whole, []byte("COREBOOT"), []byte("COREBOOK"), 1), "it has no CBFS"},
		{"FMAP beyond the end", append(romtest.FMAP(2*size, romtest.Area{Name: "FMAP", Offset: 2*size - 512, Size: 512},
			romtest.Area{Name: "COREBOOT", Offset: 512, Size: size - 512}), whole[512:]...), "FMAP: FMAP ends at 0x20000, and the file at 0x10000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := measure.Predict(open(t, c.data))
			if err == nil || !strings.Contains(err.Error(), "predict PCRs: "+c.want) || fault.KindOf(err) != fault.Input {
				t.Errorf("got %+v, %v, want %s", p, err, c.want)
			}
		})
	}
}

// observed is what a boot of the predicted ROM prints, with later kernels' prefix on some lines and noise between them.
func observed(p *measure.Prediction) string {
	var b strings.Builder
	b.WriteString("coreboot TCPA measurements:\r\n\r\n")
	for i, e := range p.Events {
		fmt.Fprintf(&b, "%s PCR-%d %s %s [%s]\r\n", []string{"", "[INFO ] "}[i%2], e.PCR, e.Digest, p.Algorithm, e.Name)
	}
	b.WriteString("\r\nPCR-2 is no entry\r\n" + strings.Repeat("long ", 30000))
	return b.String()
}

func TestParseConsole(t *testing.T) {
	p := predict(t, romtest.Coreboot(size, old, stages()...))
	want := events(p)
	for _, c := range []struct {
		name, console string
		want          []measure.Event
	}{
		{"none", "SeaBIOS (version 1.16.2)\n", nil},
		{"one", observed(p), want},
		{"without a newline at the end", strings.TrimRight(observed(p), "long "), want},
		{"after a reset", observed(p)[:300] + "\n" + observed(p), want},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := measure.ParseConsole(strings.NewReader(c.console))
			if d := cmp.Diff(c.want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
}

// TestRealBoot: what coreboot 4.15 (Debian's sources, board q35, payload SeaBIOS) printed under QEMU 7.2 replays to what its TPM
// (swtpm 0.7.1) held when SeaBIOS started.
func TestRealBoot(t *testing.T) {
	console, err := os.Open("testdata/q35-4.15.console")
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	got, err := measure.ParseConsole(console)
	if err != nil || len(got) != 6 || got[5].Name != "FMAP: COREBOOT CBFS: fallback/payload" {
		t.Fatalf("%+v, %v", got, err)
	}
	const held = "975f5ee8cd943df0ef225e5c09b1af711e8a155fe9828fd8f040d01e5662f012"
	if pcrs := measure.Replay(measure.SHA256, got...); len(pcrs) != 1 || pcrs[2].String() != held {
		t.Errorf("got %v, want PCR 2 to be %s", pcrs, held)
	}
}

func events(p *measure.Prediction) []measure.Event {
	var all []measure.Event
	for _, e := range p.Events {
		all = append(all, e.Event)
	}
	return all
}

// nameless are a prediction's events as a TPM hears them.
func nameless(p *measure.Prediction) []measure.Event {
	all := events(p)
	for i := range all {
		all[i].Name = ""
	}
	return all
}

func TestCompare(t *testing.T) {
	data := romtest.Coreboot(size, old, stages()...)
	p := predict(t, data)
	flipped := bytes.Clone(data)
	flipped[p.Events[2].Offset]++ // of romstage
	other := predict(t, flipped)
	change := func(f func([]measure.Event) []measure.Event) []measure.Event { return f(events(p)) }
	separator := measure.Event{PCR: 2, Digest: make(measure.Digest, sha256.Size), Name: "separator"}
	for _, c := range []struct {
		name string
		seen measure.Observation
		want []string
	}{
		{"nothing was looked at", measure.Observation{}, nil},
		{"as predicted", measure.Observation{Console: events(p), Log: events(p), PCRs: p.PCRs}, nil},
		{"other PCRs are not ours", measure.Observation{PCRs: measure.PCRs{0: {1}, 2: p.PCRs[2]}}, nil},
		{"as heard", measure.Observation{Heard: events(p), PCRs: p.PCRs}, nil},
		{"the payload extended too", measure.Observation{
			PCRs: measure.Replay(measure.SHA256, append(events(p), separator)...), Heard: append(events(p), separator, measure.Event{PCR: 7, Digest: separator.Digest})}, nil},
		{"the payload extended unheard", measure.Observation{PCRs: measure.Replay(measure.SHA256, append(events(p), separator)...), Heard: events(p)}, []string{
			"PCRs: PCR 2 is "}},
		{"the TPM heard nothing", measure.Observation{Heard: []measure.Event{}}, []string{"TPM: event 1, FMAP: FMAP, did not come; want "}},
		{"other names", measure.Observation{Console: change(func(e []measure.Event) []measure.Event { e[1].Name = "CBFS: bootblock"; return e })}, nil},
		{"a flipped bit in romstage", measure.Observation{Console: events(other), Log: events(p), Heard: nameless(other), PCRs: other.PCRs}, []string{
			"console: event 3, FMAP: COREBOOT CBFS: fallback/romstage, is " + other.Events[2].Digest.String() + ", want " + p.Events[2].Digest.String(),
			"TPM: event 3, FMAP: COREBOOT CBFS: fallback/romstage, is " + other.Events[2].Digest.String() + ", want " + p.Events[2].Digest.String(),
			"PCRs: PCR 2 is " + other.PCRs[2].String() + ", want " + p.PCRs[2].String(),
		}},
		{"one is missing", measure.Observation{Log: events(p)[:5]}, []string{"event log: event 6, FMAP: COREBOOT CBFS: fallback/payload, did not come; want "}},
		{"none came", measure.Observation{Console: []measure.Event{}, PCRs: measure.PCRs{}}, []string{
			"console: event 1, FMAP: FMAP, did not come", "PCRs: PCR 2 is not there, want "}},
		{"one too many", measure.Observation{Console: append(events(p), separator)}, []string{"console: event 7, separator, was not predicted: 0000"}},
		{"in another order", measure.Observation{Console: change(func(e []measure.Event) []measure.Event { e[2], e[3] = e[3], e[2]; return e })}, []string{
			"console: event 3, FMAP: COREBOOT CBFS: fallback/romstage, is " + p.Events[3].Digest.String() + ", want " + p.Events[2].Digest.String() +
				"; the boot calls it FMAP: COREBOOT CBFS: fallback/postcar"}},
		{"into another PCR", measure.Observation{Console: change(func(e []measure.Event) []measure.Event { e[0].PCR = 3; return e })}, []string{
			"console: event 1, FMAP: FMAP, went into PCR 3, want PCR 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := measure.Compare(p, c.seen)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i].String(), c.want[i]) {
					t.Errorf("got %s\nwant %s", got[i], c.want[i])
				}
			}
		})
	}
}

func TestReplay(t *testing.T) {
	one := sha1.Sum([]byte("x"))
	want := sha1.Sum(append(make([]byte, sha1.Size), one[:]...))
	if got := measure.Replay(measure.SHA1, measure.Event{PCR: 4, Digest: one[:]}); !bytes.Equal(got[4], want[:]) || len(got) != 1 {
		t.Errorf("got %v, want %x", got, want)
	}
	if got := measure.Replay(measure.SHA256); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// FuzzPredict predicts from foreign bytes: an input fault, or events that lie within them.
func FuzzPredict(f *testing.F) {
	f.Add(romtest.Coreboot(4<<10, old, stages()...))
	f.Add(romtest.Coreboot(4<<10, later, append(stages("postcar"), file("config", "CONFIG_TPM1=y\nCONFIG_TPM_MEASURED_BOOT=y\n"))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := rom.Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		p, err := measure.Predict(m)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		for _, e := range p.Events {
			if e.Offset < 0 || e.Offset+e.Size > int64(len(data)) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// FuzzParseConsole reads foreign consoles: what it finds, it finds again when it is printed.
func FuzzParseConsole(f *testing.F) {
	f.Add([]byte("PCR-2 d2b707fb09c4c99f899df34fd2468f9477939e71d68b675377afc5f09addccc3 SHA256 [FMAP: FMAP]\n"))
	f.Add([]byte("PCR-2 00\n[INFO ]  PCR-3 da39a3ee5e6b4b0d3255bfef95601890afd80709 SHA1 [x]"))
	f.Fuzz(func(t *testing.T, console []byte) {
		got, err := measure.ParseConsole(bytes.NewReader(console))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range got {
			fmt.Fprintf(&b, "PCR-%d %s SHA0 [%s]\n", e.PCR, e.Digest, e.Name)
		}
		again, err := measure.ParseConsole(strings.NewReader(b.String()))
		if d := cmp.Diff(got, again); d != "" || err != nil {
			t.Error(d, err)
		}
	})
}
