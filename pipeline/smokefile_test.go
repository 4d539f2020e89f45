package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/romtest"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

// romFiles are small files that look like ROMs, in a folder of their own.
func romFiles(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	flash := func(text string) []byte { // nothing but what is looked for
		data := bytes.Repeat([]byte{0xff}, 64<<10)
		copy(data, text)
		copy(data[len(data)-16:], []byte{0xe9, 0x43, 0xff})
		return data
	}
	volume := romtest.Volume(romtest.FFS2, 60<<10)
	for name, data := range map[string][]byte{
		"seabios.bin": flash("SeaBIOS (version %s)\n\x00" + "1.16.2-x\x00"),
		"u-boot.rom":  flash("U-Boot 2023.01 (Jan 01 2024)\x00"),
		"coreboot.rom": romtest.Coreboot(64<<10, romtest.Block{
			Text: "CRTM initialized.\n\x00CBFS: %s", Version: "4.22", Vendor: "Emulation", Part: "QEMU x86 i440fx/piix4",
		}, romtest.File{Name: "fallback/romstage", Type: romtest.Stage, Data: []byte("romstage")},
			romtest.File{Name: "fallback/ramstage", Type: romtest.Stage, Data: []byte("ramstage")},
			romtest.File{Name: "fallback/payload", Type: romtest.Payload, Data: romtest.Segments(0x100000, romtest.Segment{Kind: "CODE", Data: []byte("x"), Memory: 1})}),
		"X_CODE.fd":       append(volume, romtest.OVMFEnd()...),
		"X_CODE.extra.fd": append(volume, romtest.OVMFEnd()...),
		"alone.fd":        append(volume, romtest.OVMFEnd()...),
		"X_VARS.fd":       make([]byte, 4<<10),
		"other.bin":       flash("what else"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

func TestTrials(t *testing.T) {
	at := romFiles(t)
	h := &house{pace: 10}
	for _, c := range []struct {
		name string
		o    SmokeOptions
		want string // of each trial, in a few words; or a part of the error
	}{
		{"SeaBIOS", SmokeOptions{Args: []string{at("seabios.bin")}}, "smoke-seabios pc-i440fx-6.2 debugcon disk 3 steps"},
		{"SeaBIOS without a disk", SmokeOptions{Args: []string{at("seabios.bin")}, Set: Hardware{Disk: DiskNone}}, "smoke-seabios pc-i440fx-6.2 debugcon 2 steps"},
		{"another disk", SmokeOptions{Args: []string{at("seabios.bin")}, Set: Hardware{Disk: at("other.bin")}}, "smoke-seabios pc-i440fx-6.2 debugcon other.bin 2 steps"},
		{"U-Boot", SmokeOptions{Args: []string{at("u-boot.rom")}}, "smoke-u-boot pc-i440fx-6.2 serial headless 6 steps"},
		{"coreboot knows its board", SmokeOptions{Args: []string{at("coreboot.rom")}}, "smoke-coreboot pc-i440fx-6.2 serial 3 steps"},
		{"a prediction", SmokeOptions{Args: []string{at("coreboot.rom")}, Set: Hardware{TPM: "2.0"}}, "smoke-coreboot pc-i440fx-6.2 serial tpm 4 steps"},
		{"the person knows better", SmokeOptions{Args: []string{at("coreboot.rom")}, Set: Hardware{Machine: "pc-q35-7.0"}}, "smoke-coreboot pc-q35-7.0 serial 3 steps"},
		{"UEFI with variables beside it", SmokeOptions{Args: []string{at("X_CODE.fd")}}, "smoke-ovmf pc-q35-6.2 serial X_VARS.fd 7 steps"},
		{"and with more in its name", SmokeOptions{Args: []string{at("X_CODE.extra.fd")}}, "smoke-ovmf pc-q35-6.2 serial X_VARS.fd 7 steps"},
		{"UEFI without", SmokeOptions{Args: []string{at("alone.fd")}}, "no file of variables lies beside it"},
		{"UEFI with others", SmokeOptions{Args: []string{at("alone.fd")}, Set: Hardware{Vars: at("X_VARS.fd")}}, "smoke-ovmf pc-q35-6.2 serial X_VARS.fd 7 steps"},
		{"something else", SmokeOptions{Args: []string{at("other.bin")}}, "no profile is for"},
		{"something else, and what it says", SmokeOptions{Args: []string{at("other.bin")}, Expect: []string{"x", "y"}}, "smoke-rom pc-q35-6.2 serial 2 steps"},
		{"a named profile, and more", SmokeOptions{Args: []string{at("other.bin")}, Profile: "u-boot", Expect: []string{"x"}}, "smoke-u-boot pc-i440fx-6.2 serial headless 7 steps"},
		{"patterns in place of what it looks like", SmokeOptions{Args: []string{at("seabios.bin")}, Expect: []string{"x"}}, "smoke-seabios pc-i440fx-6.2 debugcon disk 1 steps"},
		{"many", SmokeOptions{Args: []string{at("seabios.bin"), at("u-boot.rom")}, Count: 2},
			"smoke-1-seabios-1 pc-i440fx-6.2 debugcon disk 3 steps; smoke-1-seabios-2 pc-i440fx-6.2 debugcon disk 3 steps; " +
				"smoke-2-u-boot-1 pc-i440fx-6.2 serial headless 6 steps; smoke-2-u-boot-2 pc-i440fx-6.2 serial headless 6 steps"},
		{"a spec", SmokeOptions{Args: []string{"seabios", at("other.bin")}}, "smoke-i440fx pc-i440fx-6.2 serial disk 3 steps; smoke-q35 pc-q35-6.2 serial disk 3 steps"},
		{"a spec and a profile", SmokeOptions{Args: []string{"seabios", at("other.bin")}, Profile: "seabios"}, "both a spec and a profile"},
		{"a bad pattern", SmokeOptions{Args: []string{at("other.bin")}, Forbid: []string{"("}}, "missing closing )"},
		{"a reference without a TPM", SmokeOptions{Args: []string{at("coreboot.rom")}, Reference: at("coreboot.rom")}, "held against what a TPM hears"},
		{"a reference that measures nothing", SmokeOptions{Args: []string{at("coreboot.rom")}, Reference: at("u-boot.rom"), Set: Hardware{TPM: "2.0"}}, "want coreboot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trials, err := h.trials(c.o)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Input && fault.KindOf(err) != fault.Usage {
					t.Errorf("%v (%v), want %q", err, fault.KindOf(err), c.want)
				}
				return
			}
			var all []string
			for _, tr := range trials {
				all = append(all, trialText(tr))
			}
			if got := strings.Join(all, "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func trialText(tr trial) string {
	t := tr.test
	words := []string{tr.dir, t.Machine, cmpOr(t.Console, "serial")}
	if t.Disk {
		words = append(words, "disk")
	}
	if t.Headless {
		words = append(words, "headless")
	}
	if t.TPM != "" {
		words = append(words, "tpm")
	}
	for _, path := range []string{t.DiskFile, t.Vars} {
		if path != "" {
			words = append(words, filepath.Base(path))
		}
	}
	return strings.Join(append(words, string('0'+rune(len(t.Expect)+len(t.Steps))), "steps"), " ")
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestTogether(t *testing.T) {
	boot := func(pass bool, text string, at ...time.Duration) Verdict {
		v := Verdict{Test: "x", Pass: pass, Text: text, Took: time.Second}
		for i := range 2 {
			o := Outcome{Step: string('a' + rune(i))}
			if i < len(at) {
				o.Pass, o.At = true, at[i]
			}
			v.Steps = append(v.Steps, o)
		}
		return v
	}
	const ms = time.Millisecond
	got := gather([]Verdict{
		boot(true, "fine", 10*ms, 30*ms), boot(false, "it hung", 5*ms), boot(true, "fine", 20*ms, 25*ms), boot(false, "another time", 7*ms),
		boot(true, "fine", ms, ms), boot(true, "fine", ms, ms), boot(true, "fine", ms, ms), boot(true, "fine", ms, ms),
	}, 4)
	if len(got) != 2 {
		t.Fatalf("%d verdicts, want 2", len(got))
	}
	v := got[0]
	if v.Pass || v.Text != "2 of 4 boots passed; the first that did not: it hung" || v.Took != 4*time.Second {
		t.Errorf("%+v", v)
	}
	want := &Spread{Boots: 4, Passed: 2, Steps: []StepSpread{
		{Step: "a", Came: 4, Fastest: 5 * ms, Slowest: 20 * ms}, {Step: "b", Came: 2, Fastest: 25 * ms, Slowest: 30 * ms},
	}}
	if diff := cmp.Diff(want, v.Spread); diff != "" {
		t.Errorf("spread (-want +got):\n%s", diff)
	}
	if !got[1].Pass || got[1].Text != "all 4 boots passed" {
		t.Errorf("%+v", got[1])
	}
}

func TestJUnit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "junit.xml")
	err := writeJUnit(path, []Verdict{
		{Test: "q35", ROM: "a.rom", Pass: true, Text: "fine", Took: 1500 * time.Millisecond, Console: "line <1>\n\x1b"},
		{Test: "pc", ROM: "b.rom", Text: "it \"hung\" & fell", Took: time.Second, Steps: []Outcome{{Step: "one", Pass: true}, {Step: "two"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="belljar smoke" tests="2" failures="1" time="2.500">
  <testcase classname="a.rom" name="q35" time="1.500">
    <system-out>line &lt;1&gt;&#xA;�</system-out>
  </testcase>
  <testcase classname="b.rom" name="pc" time="1.000">
    <failure message="it &#34;hung&#34; &amp; fell" type="smoke">came: one&#xA;never came: two&#xA;</failure>
  </testcase>
</testsuite>
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if err := writeJUnit(filepath.Join(path, "below"), nil); fault.KindOf(err) != fault.Host {
		t.Errorf("where no file can be: %v", err)
	}
}

// What a ROM's machine is told by flags reaches the test.
func TestHardware(t *testing.T) {
	test, err := Hardware{Machine: "pc-q35-8.0", Memory: 512 << 20, Console: "debugcon", TPM: "1.2", Disk: DiskTest, Headless: true}.apply(smokeTest(toySmoke, "", 1))
	if err != nil || test.Machine != "pc-q35-8.0" || test.Memory != 512<<20 || test.Console != "debugcon" || test.TPM != vm.TPM12 || !test.Disk || !test.Headless {
		t.Errorf("%+v, %v", test, err)
	}
	for _, h := range []Hardware{{Disk: "absent"}, {USB: t.TempDir()}, {Vars: "absent"}} {
		if _, err := h.apply(test); fault.KindOf(err) != fault.Input {
			t.Errorf("%+v: %v, want an input fault", h, err)
		}
	}
}

var toySmoke = specs.Smoke{Name: "toy", Machine: "pc-q35-6.2", Expect: []string{"x"}}
