package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A stage that fails: exit code, last words, evidence. Each script is one way to fail.
func TestFaults(t *testing.T) {
	needMachines(t)
	runScripts(t, "fault-*.txtar")
}

// Stages that need each other, each in its own guest.
func TestStages(t *testing.T) {
	needMachines(t)
	runScripts(t, "stages*.txtar")
}

// What ran in a stage is recorded, and a strict build fails of what nothing pins.
func TestPrograms(t *testing.T) {
	needMachines(t)
	runScripts(t, "programs.txtar")
}

// Stages that need those of other specs.
func TestNeeds(t *testing.T) {
	needMachines(t)
	runScripts(t, "needs.txtar")
}

// toySpec has SeaBIOS's packages and sources, so that it shares its image; the script is indented by six blanks.
func toySpec(name, script string) string {
	return `name: ` + name + `
guests: [debian-bookworm-x86_64]
sources:
  - {name: seabios, debian: seabios, version: 1.16.2-1}
stages:
  - name: build
    packages: [acpica-tools, gcc, libc6-dev, make, python3]
    script: |
` + script + `
    outputs: [rom.bin]
artifacts:
  - {name: rom.bin, stage: build, path: rom.bin}
smoke: []
`
}

// lookAround is what a person types into a guest. The answers are told from the echo of the questions.
const lookAround = "id -un; id -u; ip -o link | cut -d' ' -f2; test -f $SOURCES/seabios/Makefile && echo sources=$SOURCES; exit\n"

func checkLook(t *testing.T, out string) {
	t.Helper()
	contains(t, "shell", out, "build", "1000", "lo:", "sources=/build/sources")
	for _, line := range strings.Split(out, "\n") {
		for _, card := range []string{"eth", "enp", "ens", "sit0", "dummy"} {
			if strings.HasPrefix(line, card) {
				t.Errorf("a network interface beside lo: %s", line)
			}
		}
	}
}

// A guest whose stage failed is kept, entered, and ended: by Ctrl-C, or from elsewhere.
func TestKeep(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	spec := b.spec("keepsake", toySpec("keepsake", "      echo traces >$HOME/traces\n      exit 3"))
	for _, end := range []string{"Ctrl-C", "stop"} {
		t.Run(end, func(t *testing.T) {
			p := b.start(nil, "build", spec, "--keep", "--json")
			p.awaitText("The guest is kept")
			run := p.run()
			for _, code := range []int{0, 7} { // it can be entered more than once
				typed := "cat /build/home/traces\n" + strings.Replace(lookAround, "exit\n", fmt.Sprintf("exit %d\n", code), 1)
				o := b.start(strings.NewReader(typed), "shell", run.ID).waitFor(patience)
				if o.code != code {
					t.Fatalf("shell: exit code %d, want %d\n%s%s", o.code, code, o.stdout, o.stderr)
				}
				contains(t, "shell", o.stdout, "traces")
				checkLook(t, o.stdout)
			}
			contains(t, "runs", b.succeed("runs").stdout, "kept (stage build for ", "enter its guest: belljar shell "+run.ID)
			if end == "stop" {
				contains(t, "stop", b.succeed("stop", run.ID).stdout, run.ID+": stopped in ", "failed")
			} else {
				p.signal(syscall.SIGINT)
			}
			o := p.waitFor(patience)
			if o.code != 6 {
				t.Errorf("exit code %d, want that of the failure, 6\n%s%s", o.code, o.tail(), o.stderr)
			}
			contains(t, "failure", o.failure(t).all(), "script exited 3")
			noMachine(t, run.path, 10*time.Second)
			noDisks(t, run.path)
			if s, err := readRun(run.path); err != nil || s.State != "failed" {
				t.Errorf("the run's state is %q, %v, want failed", s.State, err)
			}
			b.exit(2, "shell", run.ID) // it is over
		})
	}
}

// Somebody tidies up, and takes the log of a stage that runs: the work of its guest is not lost, and not done twice.
func TestLogTaken(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := b.start(nil, "build", b.spec("tidied", toySpec("tidied", "      echo working away\n      sleep 5\n      echo made >$OUT/rom.bin")), "--no-cache", "--json")
	p.awaitText("working away")
	must(t, os.Remove(filepath.Join(p.run().path, "stage-build", "stage.log")))
	o := p.waitFor(patience)
	if o.code != 0 || strings.Contains(o.stdout, "trying once more") {
		t.Fatalf("exit code %d\n%s%s", o.code, o.tail(), o.stderr)
	}
	var r built
	o.result(t, &r)
	log, err := os.ReadFile(filepath.Join(filepath.Dir(r.Artifacts[0].Path), "stage-build.log"))
	must(t, err)
	contains(t, "the log that is handed over", string(log), "\nworking away\n")
}

// A shell in a fresh guest has the sources, and no network.
func TestShell(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	p := b.start(strings.NewReader(lookAround), "shell", "seabios")
	run := p.run()
	o := p.waitFor(patience)
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	checkLook(t, o.stdout)
	noMachine(t, run.path, 10*time.Second)
	noDisks(t, run.path)
}

// noDisks says that of a run only what people read is left.
func noDisks(t testing.TB, run string) {
	t.Helper()
	must(t, filepath.WalkDir(run, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (!d.Type().IsRegular() || filepath.Ext(path) == ".img" || d.Name() == "initrd") {
			t.Errorf("left: %s (%s)", path, d.Type())
		}
		return err
	}))
}
