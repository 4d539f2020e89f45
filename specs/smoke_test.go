package specs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each shipped profile is valid, is called what its file is, and has what it takes to tell a good ROM from a bad one.
func TestShippedProfiles(t *testing.T) {
	want := []string{"coreboot", "heads", "linuxboot", "ovmf", "seabios", "u-boot"}
	if diff := cmp.Diff(want, Profiles()); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
	for _, name := range Profiles() {
		p, err := LoadProfile(name)
		if err != nil {
			t.Error(report(err))
			continue
		}
		if p.Name != name || len(p.Steps) == 0 || len(p.Forbid) == 0 || p.Description == "" {
			t.Errorf("%s: %+v", name, p)
		}
		if test := p.Test("x"); test.Memory == 0 || test.Timeout == 0 || test.Artifact != "x" {
			t.Errorf("%s as a test: %+v", name, test)
		}
	}
}

// What a profile forbids are last words, and none of what a healthy boot prints. Each bad line was seen on a ROM that was
// damaged on purpose, or stands in the firmware's source for a state from which nothing good follows.
func TestShippedProfilesForbid(t *testing.T) {
	good := []string{
		"SeaBIOS (version 1.16.2-debian-1.16.2-1)", "Booting from Hard Disk...", "BELLJAR TEST DISK BOOTED",
		"coreboot-4.15 Tue Jan  2 00:00:00 UTC 2024 bootblock starting (log level: 7)...",
		"CBFS: Found 'fallback/romstage' @0x80 size 0x3e8c", "CBFS: mcache @0x00014e00 built for 13 files",
		"CBFS: 'fallback/slic' not found.", "tis_probe: No TPM device found", "Jumping to boot code at 0x000ff06e(0x0ffa4000)",
		"[    0.000000] Linux version 6.1.176", "Run /init as init process", "reboot: Power down",
		"U-Boot 2023.01 (Jan 01 2024 - 00:00:00 +0000)", "BdsDxe: loading Boot0002 \"EFI Internal Shell\" from Fv(x)", "Shell> ",
	}
	coreboot := []string{
		"CBFS: 'fallback/payload' not found.", "Couldn't load romstage.", "Failed to load after CAR program.", "Ramstage was not loaded!",
		"Payload not loaded.", "lzma: Decoding error = 1", "[EMERG ]  ASSERTION ERROR: file 'x'", "Unexpected Exception: 6 @ 10:0",
	}
	linux := []string{
		"CBFS: 'fallback/payload' not found.", "Payload not loaded.", "lzma: Decoding error = 1", "Kernel panic - not syncing: VFS",
		"[    0.5] BUG: unable to handle page fault", "Initramfs unpacking failed: XZ-compressed data is corrupt", " -- System halted",
	}
	bad := map[string][]string{
		"seabios":  {"WARNING - internal error detected at 0x7c00!", "No bootable device.", "Boot failed: not a bootable disk"},
		"coreboot": coreboot, "heads": linux, "linuxboot": linux,
		"u-boot": {"### ERROR ### Please RESET the board ###", "resetting ..."},
		"ovmf":   {"!!!! X64 Exception Type - 0D(#GP - General Protection)  CPU Apic ID - 00000000 !!!!", "ASSERT [DxeCore] x.c(1): FALSE"},
	}
	for _, name := range Profiles() {
		p, err := LoadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		hits := func(line string) bool {
			return slices.ContainsFunc(p.Forbid, func(f string) bool { return regexp.MustCompile(f).MatchString(line) })
		}
		for _, line := range good {
			if hits(line) {
				t.Errorf("%s: a healthy line is forbidden: %q", name, line)
			}
		}
		for _, line := range bad[name] {
			if !hits(line) {
				t.Errorf("%s: %q is not forbidden", name, line)
			}
		}
		if len(bad[name]) == 0 {
			t.Errorf("%s: nothing is known that it forbids", name)
		}
	}
}

const aProfile = `name: board
machine: pc-q35-6.2
tpm: "2.0"
steps:
  - expect: '^SeaBIOS'
    within: 10s
    note: it runs
  - send: "x\n"
  - press: [esc, ctrl-alt-delete]
  - reboot: true
  - text: 'a (b'
    on: debugcon
  - pcr: {bank: sha256, index: 2, value: 5afcc7de5d1d2d1d2cbb1a1d1f1f4bd04d5f6bd1cbb9b0b6ca5dff2e9ac7a3f0}
  - eventlog: {bank: sha1, index: 4, events: [{name: payload, digest: 5afcc7de5d1d2d1d2cbb1a1d1f1f4bd04d5f6bd1}]}
  - qmp: system_powerdown
  - power-off: true
`

func TestParseProfile(t *testing.T) {
	p, err := ParseProfile("board.yaml", []byte(aProfile))
	if err != nil {
		t.Fatal(report(err))
	}
	if s := p.Steps[1].Send; s != "x\n" {
		t.Errorf("send %q", s)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown step", "- reboot: true", "- rebot: true", `10:5: steps[3]: unknown key "rebot": did you mean "reboot"?`},
		{"unknown key", "within", "witin", `6:5: steps[0]: unknown key "witin": did you mean "within"?`},
		{"two kinds", "note: it runs", "send: x", `steps[0]: a step is one of expect, text, send, press, reboot, power-off, screenshot, pcr, eventlog, qmp, and this one is expect and send`},
		{"none", "expect: '^SeaBIOS'", "on: serial", `this one is none`},
		{"pattern", "'^SeaBIOS'", "'^Sea(B[)]IOS'", "5:13: steps[0].expect: not a regular expression (RE2 syntax): missing closing ): `^Sea(B[)]IOS`, at character 5 of it"},
		{"repetition", "'^SeaBIOS'", "'é**'", "invalid nested repetition operator: `**`, at character 2 of it"},
		{"empty pattern", "'^SeaBIOS'", "'x?'", `"x?" matches an empty line`},
		{"keys", "[esc, ctrl", "[esc, Ctrl+", `steps[2].press[1]: "Ctrl+-alt-delete" is not a key of QEMU's`},
		{"reset never", "reboot: true", "reboot: false", `steps[3].reboot: false says nothing`},
		{"on what", "on: debugcon", "on: serail", `there is no console "serail": did you mean "serial"?`},
		{"on where", "send: \"x\\n\"", "send: x\n    on: serial", `steps[1].on: on belongs to expect and text`},
		{"no TPM", "tpm: \"2.0\"", "disk: true", `steps[5].pcr: the machine has no TPM: add tpm: "2.0" to the test`},
		{"a picture of nothing", "- power-off: true", "- screenshot: menu\nheadless: true", `steps[8].screenshot: the machine has no screen: leave headless out of the test`},
		{"what TPM", "tpm: \"2.0\"", "tpm: \"2\"", `3:6: tpm: there is no TPM "2"`},
		{"bank", "bank: sha256", "bank: sha265", `there is no bank "sha265": did you mean "sha256"?`},
		{"register", "index: 2,", "index: 24,", `there is no PCR 24: from 0 to 23`},
		{"short digest", "9ac7a3f0}", "9ac7a3}", `is not a digest of sha256: 64 hex digits`},
		{"event's digest", "sha1,", "sha256,", `steps[6].eventlog.events[0].digest: "5afcc7de5d1d2d1d2cbb1a1d1f1f4bd04d5f6bd1" is not a digest of sha256`},
		{"command", "system_powerdown", "quit", `steps[7].qmp: a test may not give the command "quit"`},
		{"with what", "within: 10s", "with: disk", `steps[0].with: there is no "disk"`},
		{"short form too", "steps:", "expect: [x]\nsteps:", `expect: a test has expect or steps, not both`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(aProfile, c.old) {
				t.Fatalf("the profile has no %q", c.old)
			}
			_, err := ParseProfile("board.yaml", []byte(strings.Replace(aProfile, c.old, c.new, 1)))
			if got := report(err); !strings.Contains(got, c.want) {
				t.Errorf("got:\n%s\nwant a part: %s", got, c.want)
			}
		})
	}
}

// Acting and looking prove nothing by themselves.
func TestProfileWithoutProof(t *testing.T) {
	_, err := ParseProfile("x.yaml", []byte("name: x\nmachine: pc-q35-6.2\nsteps:\n  - send: x\n"))
	if got := report(err); !strings.Contains(got, "steps: no step waits for anything") {
		t.Error(got)
	}
}

func TestLoadProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "board.yaml")
	if err := os.WriteFile(file, []byte(aProfile), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadProfile(file); err != nil || p.Name != "board" {
		t.Errorf("%+v, %v", p, err)
	}
	for name, want := range map[string]string{
		"seabois": `there is no shipped profile "seabois": did you mean "seabios"?`, "./absent.yaml": "there is no file ./absent.yaml",
	} {
		if _, err := LoadProfile(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(aProfile))
	addFiles(f, "shipped/profiles/*.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("fuzz.yaml", data)
		checkParsed(t, p != nil, err)
	})
}
