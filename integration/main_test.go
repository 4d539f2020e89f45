package integration

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/belljar/belljar/vm/libvirt/libvirttest"
)

// What TestMain finds out: absolute paths of the program, of the folder that tests share, and of the sources.
var program, sharedDir, sources string

func TestMain(m *testing.M) {
	libvirttest.Main() // a child that keeps a libvirtd is this program as well; it does not return from here
	flag.Parse()
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (code int, err error) {
	if testing.Short() {
		return m.Run(), nil // every test skips itself, and says so
	}
	if sources, err = filepath.Abs(".."); err != nil {
		return 0, err
	}
	sharedDir = os.Getenv("BELLJAR_TEST_DIR")
	if sharedDir == "" {
		sharedDir = filepath.Join(sources, ".cache", "test")
	}
	if sharedDir, err = filepath.Abs(sharedDir); err != nil {
		return 0, err
	}
	temp, err := os.MkdirTemp("", "belljar-test-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	program = filepath.Join(temp, "belljar") // scripts find it by that name
	given := os.Getenv("BELLJAR_BIN")
	if given == "" {
		if err := buildProgram(temp, nil); err != nil {
			return 0, err
		}
		return m.Run(), nil
	}
	if given, err = filepath.EvalSymlinks(given); err != nil {
		return 0, fmt.Errorf("BELLJAR_BIN: %w", err)
	}
	if given, err = filepath.Abs(given); err != nil {
		return 0, err
	}
	if err := os.Symlink(given, program); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// agents are the programs that are embedded in belljar, by the file's place in the source folder.
var agents = map[string][]string{
	"provision/agentbin/bin/agent-386":   {"GOARCH=386", "GO386=softfloat"},
	"provision/agentbin/bin/agent-amd64": {"GOARCH=amd64"},
	"provision/agentbin/bin/init-386":    {"GOARCH=386", "GO386=softfloat"},
	"provision/agentbin/bin/init-amd64":  {"GOARCH=amd64"},
}

// buildProgram builds belljar into a folder as the Makefile does. The source folder is not written to: an overlay
// (go help build, -overlay) puts the agents where they are embedded, and more files in the place of others.
func buildProgram(dir string, more map[string]string) error {
	overlay := map[string]string{}
	maps.Copy(overlay, more)
	for place, env := range agents {
		out := filepath.Join(dir, filepath.Base(place))
		source := "./guest-agent"
		if strings.HasPrefix(filepath.Base(place), "init-") {
			source += "/init"
		}
		if err := goBuild(append(env, "GOOS=linux"), "-o", out, source); err != nil {
			return err
		}
		overlay[filepath.Join(sources, place)] = out
	}
	data, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	return goBuild(nil, "-overlay", file, "-o", filepath.Join(dir, "belljar"), "./cmd/belljar")
}

func goBuild(env []string, args ...string) error {
	args = append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid="}, args...)
	cmd := exec.Command("go", args...)
	cmd.Dir = sources
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// needMachines skips a test under -short. Nothing else skips one: what a test needs and cannot have makes it fail.
func needMachines(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines; left out by -short")
	}
}

// runScripts runs the txtar scripts whose names fit a pattern. In them 'belljar' is the program, on the shared folder;
// 'exits CODE COMMAND…' runs a command and checks its exit code; 'lock SPEC…' locks specs without a network, from the
// lock that is shipped with seabios: they name the same packages, and so share its image; 'run' puts the id of the run
// that the last command named into $RUN ('last' could be another script's); 'within DURATION COMMAND…' is a command that must
// go well in that time.
func runScripts(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "script", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts %s: %v", pattern, err)
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(e *testscript.Env) error {
			for _, v := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
				e.Setenv(v, os.Getenv(v))
			}
			e.Setenv("BELLJAR_DIR", sharedDir)
			e.Setenv("SHIPPED", filepath.Join(sources, "specs", "shipped"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("PATH", filepath.Dir(program)+string(filepath.ListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": scriptExits, "lock": scriptLock, "run": scriptRun, "within": scriptWithin},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func scriptWithin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: within DURATION COMMAND…")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	began := time.Now()
	ts.Check(ts.Exec(args[1], args[2:]...))
	if took := time.Since(began); took > limit {
		ts.Fatalf("it took %s, want %s at most", took, limit)
	}
}

func scriptLock(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: lock SPEC…")
	}
	for _, spec := range args {
		ts.Check(offlineLock(ts.MkAbs(spec), func(args ...string) error { return ts.Exec(program, args...) }))
	}
}

var runLine = regexp.MustCompile(`(?m)^run: ([^;]+);`)

func scriptRun(ts *testscript.TestScript, _ bool, _ []string) {
	m := runLine.FindStringSubmatch(ts.ReadFile("stderr"))
	if m == nil {
		ts.Fatalf("the last command named no run")
	}
	ts.Setenv("RUN", m[1])
}
