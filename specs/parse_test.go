package specs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

// romSpec is a spec in which nothing is wrong; the tests break it in one place.
const romSpec = `name: rom
guests: [debian-bookworm-x86_64]
sources:
  - name: board
    git: https://example.org/board.git
    commit: 8f3c1d5e7a9b2c4d6e8f0a1b3c5d7e9f1a2b3c4d
  - name: seabios
    debian: seabios
    version: 1.16.2-1
stages:
  - name: payload
    packages: [make, gcc]
    script: make
    outputs: [payload/bios.elf]
  - name: rom
    needs: [payload]
    env:
      TIMELESS: "1"
    script: |
      make
    timeout: 5m
    outputs: [rom.bin]
artifacts:
  - name: rom.bin
    stage: rom
    path: rom.bin
smoke:
  - name: q35
    artifact: rom.bin
    machine: pc-q35-6.2
    memory: 512MiB
    expect: ['^SeaBIOS']
`

func TestParseSpec(t *testing.T) {
	s, err := ParseSpec("rom.yaml", []byte(romSpec))
	if err != nil {
		t.Fatal(report(err))
	}
	if got, want := s.Stages[1].Script, "make\n"; got != want {
		t.Errorf("script %q, want %q", got, want)
	}
	want := Smoke{Name: "q35", Artifact: "rom.bin", Machine: "pc-q35-6.2", CPU: DefaultSmokeCPU, Memory: 512 * MiB,
		Console: ConsoleSerial, Expect: []string{"^SeaBIOS"}, Silence: DefaultSmokeSilence, Timeout: DefaultSmokeTimeout}
	if diff := cmp.Diff(want, s.Smoke[0]); diff != "" {
		t.Errorf("smoke test (-want +got):\n%s", diff)
	}
	if s.Stages[0].Silence != DefaultStageSilence || s.Stages[0].Timeout != 0 {
		t.Errorf("a stage that says nothing: silence %s, timeout %s", s.Stages[0].Silence, s.Stages[0].Timeout)
	}
}

// breakage replaces the first old by new in a good document; want is the first line of the report.
type breakage struct{ name, old, new, want string }

var brokenSpecs = []breakage{
	// What the decoder refuses.
	{"unknown key", "script: make", "scirpt: make", `13:5: stages[0]: unknown key "scirpt": did you mean "script"?`},
	{"unknown key alone", "script: make", "script: make\n    scirpt: make", `14:5: stages[0]: unknown key "scirpt": did you mean "script"?`},
	{"unknown key, nothing near", "name: rom", "name: rom\nqqqqqqqqqqqqqqqqq: 1", `2:1: unknown key "qqqqqqqqqqqqqqqqq": known are artifacts, description, guests, name, smoke, sources, stages`},
	{"missing key", "guests: [debian-bookworm-x86_64]\n", "", `1:1: missing: guests`},
	{"doubled key", "script: make", "script: make\n    script: make", `14:5: mapping key "script" already defined at [13:5]`},
	{"number for string", "version: 1.16.2-1", "version: 1.10", `9:14: sources[1].version: expected a string, found a number with a point: write "1.10"`},
	{"integer for string", `TIMELESS: "1"`, "TIMELESS: 1", `18:17: stages[1].env.TIMELESS: expected a string, found a number: write "1"`},
	{"boolean for string", `TIMELESS: "1"`, "TIMELESS: true", `18:17: stages[1].env.TIMELESS: expected a string, found a boolean: write "true"`},
	{"string for list", "[payload/bios.elf]", "payload/bios.elf", `14:14: stages[0].outputs: expected a list, found a string`},
	{"list for string", "script: make", "script: [make]", `13:13: stages[0].script: expected a string, found a list`},
	{"string for mapping", "env:\n      TIMELESS: \"1\"", "env: TIMELESS", `17:10: stages[1].env: expected a mapping, found a string`},
	{"nothing", "script: make", "script:", `13:5: stages[0].script: expected a string, found nothing`},
	{"string for boolean", "memory: 512MiB", "disk: yes", `31:11: smoke[0].disk: expected a boolean, found a string`},
	{"bare duration", "timeout: 5m", "timeout: 5", `21:14: stages[1].timeout: expected a string, found a number: write "5"`},
	{"bad duration", "timeout: 5m", "timeout: 5 min", `21:14: stages[1].timeout: "5 min" is not a duration: write it like "90s" or "5m"`},
	{"decimal size", "memory: 512MiB", "memory: 512MB", `31:13: smoke[0].memory: "512MB" is not a size: write a whole number with B, KiB, MiB, GiB or TiB, like "512MiB"`},
	// What of YAML is not part of the language.
	{"anchor", "script: make", "script: &make make", `13:13: an anchor is not part of this language: write the value where it is used, or quote it`},
	{"alias", "script: make", "script: *make", `13:13: an alias is not part of this language: write the value where it is used, or quote it`},
	{"tag", "script: make", "script: !!str make", `13:13: a tag is not part of this language: write the value where it is used, or quote it`},
	{"second document", "name: rom", "---\nname: rom\n---\nname: rom", `4:1: a second document: a file holds one`},
	{"tab", "    script: make", "\tscript: make", `13:1: found character '\t' that cannot start any token`},
	// What validation refuses.
	{"name", "name: rom", "name: ROM", `1:7: name: "ROM" is not a name, like rom or roms/seabios: lower-case letters, digits and ._+-, starting with a letter or a digit`},
	{"no guest", "[debian-bookworm-x86_64]", "[]", `2:9: guests: no guest: name one at least, like debian-bookworm-x86_64`},
	{"guest twice", "[debian-bookworm-x86_64]", "[a, a]", `2:13: guests[1]: the name "a" is there twice`},
	{"source of two kinds", "debian: seabios", "debian: seabios\n    url: https://example.org/x", `9:10: sources[1].url: a source is of one kind: debian or url, not both`},
	{"source of no kind", "    git: https://example.org/board.git\n    commit: 8f3c1d5e7a9b2c4d6e8f0a1b3c5d7e9f1a2b3c4d\n", "", `4:5: sources[0]: a source needs one of debian, url and git`},
	{"pin missing", "    version: 1.16.2-1\n", "", `8:13: sources[1].debian: missing: version, which pins a debian source`},
	{"pin of another kind", "version: 1.16.2-1", "commit: 8f3c1d5e7a9b2c4d6e8f0a1b3c5d7e9f1a2b3c4d", `8:13: sources[1].debian: missing: version, which pins a debian source (and 1 more mistake)`},
	{"short commit", "8f3c1d5e7a9b2c4d6e8f0a1b3c5d7e9f1a2b3c4d", "8f3c1d5", `6:13: sources[0].commit: "8f3c1d5" is not a full commit: 40 or 64 lower-case hex digits`},
	{"short digest", "git: https://example.org/board.git\n    commit: 8f3c1d5e7a9b2c4d6e8f0a1b3c5d7e9f1a2b3c4d", "url: https://example.org/x\n    sha256: ff", `6:13: sources[0].sha256: "ff" is not a SHA-256: 64 lower-case hex digits`},
	{"git by ssh", "https://example.org/board.git", "git@example.org:board.git", `5:10: sources[0].git: "git@example.org:board.git" is not an https:// or http:// URL`},
	{"password in URL", "https://example.org/board.git", "https://me:pw@example.org/board.git", `5:10: sources[0].git: a URL must not hold a user or a password: a spec is no place for secrets`},
	{"bad version", "version: 1.16.2-1", "version: v1 16", `9:14: sources[1].version: "v1 16" is not a Debian version`},
	{"bad package", "[make, gcc]", "[make, GCC]", `12:22: stages[0].packages[1]: "GCC" is not a Debian package name`},
	{"package twice", "[make, gcc]", "[make, make]", `12:22: stages[0].packages[1]: the name "make" is there twice`},
	{"unknown scratch", "needs: [payload]", "needs: [payload]\n    scratch: ram", `17:14: stages[1].scratch: "ram" is no place for a stage's files: disk or tmpfs`},
	{"little memory", "needs: [payload]", "needs: [payload]\n    memory: 64MiB", `17:13: stages[1].memory: 64MiB is too little: at least 128MiB`},
	{"unknown stage", "needs: [payload]", "needs: [paylaod]", `16:13: stages[1].needs[0]: there is no stage "paylaod": did you mean "payload"?`},
	{"ring of one", "needs: [payload]", "needs: [rom]", `16:13: stages[1].needs[0]: stages need each other in a ring: rom needs rom`},
	{"ring of two", "packages: [make, gcc]", "needs: [rom]", `16:13: stages[1].needs[0]: stages need each other in a ring: payload needs rom needs payload`},
	{"a spec without a name", "needs: [payload]", "needs: ['#payload']", `16:13: stages[1].needs[0]: "#payload" names no spec: write SPEC#STAGE, or STAGE for one of this spec's own`},
	{"a spec's name", "needs: [payload]", "needs: [Tool#lib]", `16:13: stages[1].needs[0]: "Tool" is not a name, like rom or roms/seabios: lower-case letters, digits and ._+-, starting with a letter or a digit`},
	{"a stage of no name", "needs: [payload]", "needs: [./tool.yaml#]", `16:13: stages[1].needs[0]: "" is not a name: lower-case letters, digits and ._+-, starting with a letter or a digit`},
	{"one folder", "needs: [payload]", "needs: [payload, ./tool.yaml#payload]", `16:22: stages[1].needs[1]: the outputs of payload and of ./tool.yaml#payload would both lie in $STAGES/payload`},
	{"one folder of two specs", "needs: [payload]", "needs: [a#lib, b#lib]", `16:20: stages[1].needs[1]: the outputs of a#lib and of b#lib would both lie in $STAGES/lib`},
	{"unknown source of a stage", "needs: [payload]", "sources: [bord]", `16:15: stages[1].sources[0]: there is no source "bord": did you mean "board"?`},
	{"source of a stage twice", "needs: [payload]", "sources: [board, board]", `16:22: stages[1].sources[1]: the name "board" is there twice`},
	{"makes a broken pattern", "outputs: [rom.bin]", "outputs: [rom.bin]\n    makes: ['conf[']", `23:13: stages[1].makes[0]: "conf[" is not a pattern of the last parts of a path, like conftest* or kconfig/conf`},
	{"makes an absolute path", "outputs: [rom.bin]", "outputs: [rom.bin]\n    makes: [/build/conf]", `23:13: stages[1].makes[0]: "/build/conf" is not a pattern of the last parts of a path, like conftest* or kconfig/conf`},
	{"makes twice", "outputs: [rom.bin]", "outputs: [rom.bin]\n    makes: [conf, conf]", `23:19: stages[1].makes[1]: the name "conf" is there twice`},
	{"file and folder", "outputs: [rom.bin]", "outputs: [rom.bin, rom.bin/]", `22:24: stages[1].outputs[1]: the name "rom.bin" is there twice`},
	{"folder climbs", "outputs: [rom.bin]", "outputs: [rom.bin, ../]", `22:24: stages[1].outputs[1]: ".." climbs out of $OUT`},
	{"artifact is a folder", "path: rom.bin", "path: rom/", `26:11: artifacts[0].path: "rom/" is a folder: an artifact is one file`},
	{"stage twice", "name: rom\n    needs", "name: payload\n    needs", `15:11: stages[1].name: the name "payload" is there twice (and 2 more mistakes)`},
	{"variable", "TIMELESS:", "TIME-LESS:", `18:18: stages[1].env.TIME-LESS: "TIME-LESS" is not a variable's name`},
	{"reserved variable", "TIMELESS:", "OUT:", `18:12: stages[1].env.OUT: OUT is set by Belljar`},
	{"empty script", "script: make", `script: " "`, `13:13: stages[0].script: the script is empty`},
	{"NUL in script", "script: make", `script: "a\0b"`, `13:13: stages[0].script: a NUL byte cannot be passed to a program`},
	{"output climbs", "[payload/bios.elf]", "[a/../../x]", `14:15: stages[0].outputs[0]: "a/../../x" climbs out of $OUT`},
	{"output absolute", "[payload/bios.elf]", "[/etc/passwd]", `14:15: stages[0].outputs[0]: "/etc/passwd" is absolute: outputs are relative to $OUT`},
	{"output untidy", "[payload/bios.elf]", "[./x]", `14:15: stages[0].outputs[0]: "./x" is not a plain relative path, like build/rom.bin`},
	{"artifact of no stage", "stage: rom", "stage: ram", `25:12: artifacts[0].stage: there is no stage "ram": did you mean "rom"?`},
	{"artifact no output", "path: rom.bin", "path: rom.elf", `26:11: artifacts[0].path: "rom.elf" is not an output of the stage rom: did you mean "rom.bin"?`},
	{"artifact with a folder", "- name: rom.bin", "- name: a/rom.bin", `24:11: artifacts[0].name: "a/rom.bin" is not a file name: letters, digits and ._+- (and 1 more mistake)`},
	{"smoke of no artifact", "artifact: rom.bin", "artifact: rom", `29:15: smoke[0].artifact: there is no artifact "rom": did you mean "rom.bin"?`},
	{"machine unversioned", "pc-q35-6.2", "q35", `30:14: smoke[0].machine: "q35" is not a machine type with a version, like pc-q35-6.2: without it, QEMU's next release is another machine`},
	{"host CPU", "memory: 512MiB", "cpu: host", `31:10: smoke[0].cpu: "host" is another CPU on every host: name a model with a version, like Nehalem-v1`},
	{"CPU unversioned", "memory: 512MiB", "cpu: Nehalem", `31:10: smoke[0].cpu: "Nehalem" is not a CPU model with a version, like Nehalem-v1`},
	{"odd memory", "512MiB", "1025KiB", `31:13: smoke[0].memory: 1025KiB is not a multiple of 1MiB`},
	{"console", "memory: 512MiB", "console: seriell", `31:14: smoke[0].console: there is no console "seriell": did you mean "serial"?`},
	{"expect nothing", "['^SeaBIOS']", "[]", `32:13: smoke[0].expect: nothing is expected: a boot that shows nothing proves nothing`},
	{"bad pattern", "'^SeaBIOS'", "'SeaBIOS ('", "32:14: smoke[0].expect[0]: not a regular expression (RE2 syntax): missing closing ): `SeaBIOS (`, at character 9 of it; a backslash before any of . ( ) [ ] + * ? | makes plain text of it"},
	{"empty pattern", "'^SeaBIOS'", "'.*'", `32:14: smoke[0].expect[0]: ".*" matches an empty line, so it says nothing`},
}

const pcGuest = `name: pc
arch: i686
suite: bookworm
kernel: linux-image-686-pae
packages: [openssh-server]
machine: pc-q35-6.2
cpu: coreduo-v1
memory: 1GiB
cpus: 2
clock: "2026-01-01T00:00:00Z"
scratch: 8GiB
`

var brokenGuests = []breakage{
	{"arch", "i686", "i386", `2:7: arch: there is no architecture "i386": did you mean "i686"?`},
	{"suite of additions", "suite: bookworm", "suite: bookworm-security", `3:8: suite: bookworm-security is not a whole suite: write bookworm and add ` + "`security: true`"},
	{"suite of backports", "suite: bookworm", "suite: bookworm-backports", `3:8: suite: bookworm-backports is not a whole suite: write bookworm`},
	{"security", "suite: bookworm", "suite: bookworm\nsecurity: yes", `4:11: security: expected a boolean, found a string`},
	{"snapshot", "suite: bookworm", "suite: bookworm\nsnapshot: 20261301T000000Z", `4:11: snapshot: "20261301T000000Z" is not a moment of snapshot.debian.org, like 20260101T000000Z`},
	{"snapshot of nothing", "suite: bookworm", "suite: bookworm\nsnapshot: ''", `4:11: snapshot: "" is not a moment of snapshot.debian.org, like 20260101T000000Z`},
	{"suite", "bookworm", "Debian 12", `3:8: suite: "Debian 12" is not a suite, like bookworm`},
	{"CPUs as string", "cpus: 2", `cpus: "2"`, `9:7: cpus: expected a number, found a string`},
	{"no CPUs", "cpus: 2", "cpus: 0", `9:7: cpus: 0 CPUs: from 1 to 255`},
	{"CPUs in hex", "cpus: 2", "cpus: 0x2", `9:7: cpus: 0x2 is not a decimal number in range`},
	{"little memory", "1GiB", "64MiB", `8:9: memory: 64MiB is too little: at least 128MiB`},
	{"max CPU", "coreduo-v1", "max", `7:6: cpu: "max" is another CPU on every host: name a model with a version, like Nehalem-v1`},
	{"clock in words", "2026-01-01T00:00:00Z", "yesterday", `10:8: clock: "yesterday" is not a time: write it as in RFC 3339, in UTC, like "2026-01-01T00:00:00Z"`},
	{"clock with zone", "00:00:00Z", "00:00:00+01:00", `10:8: clock: the clock must be in UTC: end it with Z`},
	{"clock too late", "2026-", "2040-", `10:8: clock: the clock must be between 1980-01-01 and 2038-01-19, where a 32-bit time_t ends`},
	{"clock with fraction", "00Z", "00.5Z", `10:8: clock: the clock counts whole seconds`},
	{"scratch too great", "8GiB", "99999999999999TiB", `11:10: scratch: "99999999999999TiB" is too great a size`},
}

func TestParseRefuses(t *testing.T) {
	parseSpec := func(data string) error { _, err := ParseSpec("x.yaml", []byte(data)); return err }
	parseGuest := func(data string) error { _, err := ParseGuest("x.yaml", []byte(data)); return err }
	if err := parseGuest(pcGuest); err != nil {
		t.Fatal(report(err))
	}
	for _, lang := range []struct {
		name, good string
		parse      func(string) error
		cases      []breakage
	}{
		{"spec", romSpec, parseSpec, brokenSpecs},
		{"guest", pcGuest, parseGuest, brokenGuests},
	} {
		for _, tc := range lang.cases {
			t.Run(lang.name+"/"+tc.name, func(t *testing.T) {
				bad := strings.Replace(lang.good, tc.old, tc.new, 1)
				if bad == lang.good {
					t.Fatal("the case changes nothing")
				}
				checkRefused(t, lang.parse(bad), "x.yaml:"+tc.want)
			})
		}
	}
}

// checkRefused wants an input fault whose cause is exactly want, with an excerpt whose caret stands where want says.
func checkRefused(t *testing.T, err error, want string) {
	t.Helper()
	chain := fault.Chain(err)
	if len(chain) == 0 || chain[0].Kind != fault.Input {
		t.Fatalf("not an input fault: %v", err)
	}
	if got := chain[0].Err.Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if len(chain[0].Evidence) == 0 || !strings.HasSuffix(chain[0].Evidence[0].Text, "^") {
		t.Errorf("no excerpt with a caret: %+v", chain[0].Evidence)
	}
}

// report is an error as the command line prints it, near enough.
func report(err error) string {
	if err == nil {
		return "no error\n"
	}
	var b strings.Builder
	b.WriteString(err.Error() + "\n")
	for _, e := range fault.Chain(err) {
		b.WriteString("kind: " + e.Kind.String() + "\n")
		if e.Remedy != "" {
			b.WriteString("remedy: " + e.Remedy + "\n")
		}
		for _, ev := range e.Evidence {
			b.WriteString("\n" + ev.Title + "\n" + ev.Text + "\n")
		}
	}
	return b.String()
}

// TestReport holds what a person sees to golden files.
func TestReport(t *testing.T) {
	long := strings.Repeat("bad: 1\n", 3)
	for name, data := range map[string]string{
		"several":     strings.NewReplacer("scirpt", "", "script: make", "scirpt: make", "machine: pc-q35-6.2", "machine: 7", "debian: seabios", "debain: seabios").Replace(romSpec),
		"empty":       "",
		"comment":     "# nothing\n",
		"scalar":      "rom",
		"list":        "- name: rom\n",
		"syntax":      "name: [a, b\nguests: []\n",
		"binary":      "name: \xff\xfe\n",
		"wide":        "name: rom # größer\näöü: {ß: 1}\n",
		"escape":      "name: \"\x1b[31m\"\nx: \x1b[2J\n",
		"deep":        strings.Repeat("[", 100),
		"deep list":   strings.Repeat("- ", 100) + "x",
		"many":        long,
		"directive":   "%YAML 1.2\n---\nname: rom\n",
		"merge":       "<<: {a: 1}\n",
		"complex key": "? [a]\n: b\n",
		"number key":  "1: a\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSpec("rom.yaml", []byte(data))
			if err == nil {
				t.Fatal("accepted")
			}
			golden(t, filepath.Join("testdata", "report", strings.ReplaceAll(name, " ", "-")+".txt"), report(err))
		})
	}
}

// TestParseIsBounded: what no person writes is refused at once, whatever the parser would make of it.
func TestParseIsBounded(t *testing.T) {
	var keys strings.Builder
	for i := range maxYAMLValues + 1 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	var blocks strings.Builder
	for i := range maxYAMLDepth + 1 {
		fmt.Fprintf(&blocks, "%sk:\n", strings.Repeat(" ", i))
	}
	for name, tc := range map[string]struct{ data, want string }{
		"blocks":   {blocks.String(), "33:33: nested more than 32 deep"},
		"bytes":    {strings.Repeat("#", maxYAMLBytes+1), "1:1: the file is too long: 262145 bytes, at most 262144"},
		"keys":     {keys.String(), "8193:6: more than 8192 keys and elements"},
		"elements": {"[" + strings.Repeat("a,", maxYAMLValues+1) + "]", "1:16387: more than 8192 keys and elements"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := ParseSpec("x.yaml", []byte(tc.data))
			checkRefused(t, err, "x.yaml:"+tc.want)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

// TestManyBlocks: blocks that follow one another are not within one another, however many end in one line.
func TestManyBlocks(t *testing.T) {
	var steps strings.Builder
	for range 2 * maxYAMLDepth {
		steps.WriteString("      - eventlog:\n          bank: sha256\n          index: 2\n          events:\n            - name: x\n              digest: " + strings.Repeat("a", 64) + "\n")
	}
	data := strings.Replace(romSpec, "    expect: ['^SeaBIOS']\n", "    tpm: \"2.0\"\n    steps:\n      - text: SeaBIOS\n"+steps.String(), 1)
	if s, err := ParseSpec("rom.yaml", []byte(data)); err != nil || len(s.Smoke[0].Steps) != 2*maxYAMLDepth+1 {
		t.Errorf("%v", err)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

// TestGuideShowsTheTruth: the report that docs/spec.md shows is the one that this program makes.
func TestGuideShowsTheTruth(t *testing.T) {
	guide, err := os.ReadFile("../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParseSpec("rom.yaml", []byte(strings.Replace(romSpec, "script: make", "scirpt: make", 1)))
	want := err.Error() + "\n" + fault.Chain(err)[0].Evidence[0].Text + "\n"
	if !strings.Contains(string(guide), "```\n"+want+"```\n") {
		t.Errorf("docs/spec.md does not show:\n%s", want)
	}
}
