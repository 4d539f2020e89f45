package smoke

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// fake is a backend and its guest: a console that says its text and then ends with a fate.
type fake struct {
	preflight error
	start     error
	text      io.Reader
	fate      error // Wait's answer
	hang      bool  // the console stays open behind the text
	closed    int
	machine   vm.Machine
}

func (f *fake) Preflight(context.Context, vm.Machine) error { return f.preflight }

func (f *fake) Start(_ context.Context, m vm.Machine, _ string) (vm.Guest, error) {
	f.machine = m
	return f, f.start
}

func (f *fake) Dial(context.Context, string) (net.Conn, error) { return nil, errors.New("no ports") }
func (f *fake) Wait() error                                    { return f.fate }
func (f *fake) Close() error                                   { f.closed++; return nil }

func (f *fake) Console() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, _ = io.Copy(w, f.text)
		if !f.hang {
			w.Close()
		}
	}()
	return r
}

func fakeTest() Test {
	return Test{
		Name: "fake", Machine: "pc-q35-6.2", Expect: []string{`^one$`, `^two$`}, Forbid: []string{`panic`},
		Silence: 500 * time.Millisecond, Timeout: 2 * time.Second,
	}
}

func romFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fake.rom")
	if err := os.WriteFile(path, withVector(0xe9, 0x43, 0xff), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVerdicts(t *testing.T) {
	reset := fault.New(fault.Guest, "run", "the guest reset the machine")
	for _, c := range []struct {
		name string
		fake fake
		text string
		pass bool
		want string
	}{
		{"both lines", fake{hang: true}, "zero\none\ntwo\n", true, "all 2 expected lines came within "},
		{"both lines, then the end", fake{}, "one\ntwo\n", true, "all 2 expected lines"},
		{"order matters", fake{hang: true}, "two\none\n", false, "nothing came for 0.5 s after ‘one’; expectation 2 of 2 never came: ‘^two$’"},
		{"forbidden first", fake{hang: true}, "one\nkernel panic\ntwo\n", false, "the console says ‘kernel panic’, which this test forbids (pattern ‘panic’)"},
		{"nothing", fake{hang: true}, "", false, "nothing at all came on the serial console in 0.5 s"},
		{"no text", fake{hang: true}, "\r\n\r\n", false, "4 bytes came on the serial console, none of them text"},
		{"powers off early", fake{}, "one\n", false, "the machine powered itself off "},
		{"resets early", fake{fate: reset}, "one\n", false, "the machine reset itself "},
		{"resets before any line", fake{fate: reset}, "", false, ", before a line was printed; expectation 1 of 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.fake
			f.text = strings.NewReader(c.text)
			v, err := Run(context.Background(), &f, vm.TCG, romFile(t), fakeTest(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if v.Pass != c.pass || !strings.Contains(v.Reason, c.want) {
				t.Errorf("pass %v, reason %q; want %v, %q", v.Pass, v.Reason, c.pass, c.want)
			}
			if (v.Err() == nil) != c.pass {
				t.Errorf("Err %v for pass %v", v.Err(), v.Pass)
			}
			if f.closed == 0 {
				t.Error("the machine was left running")
			}
			if f.machine.CPU != DefaultCPU || f.machine.Memory != DefaultMemory || f.machine.OnReset != vm.ExitOnReset {
				t.Errorf("machine: %+v", f.machine)
			}
		})
	}
}

// A headless machine has no screen, but for a person who asks for it.
func TestHeadless(t *testing.T) {
	test := fakeTest()
	test.Headless = true
	f := &fake{text: strings.NewReader("")}
	if _, err := Run(t.Context(), f, vm.TCG, romFile(t), test, t.TempDir()); err != nil || f.machine.Screen {
		t.Errorf("screen %v, %v", f.machine.Screen, err)
	}
	for _, vnc := range []bool{false, true} {
		if _, err := Boot(t.Context(), f, vm.TCG, romFile(t), test, vnc, t.TempDir()); err != nil || f.machine.Screen != vnc {
			t.Errorf("for a person, served %v: screen %v, %v", vnc, f.machine.Screen, err)
		}
	}
}

func TestFloodEndsBeforeTheDiskIsFull(t *testing.T) {
	line := strings.Repeat("aye ", 1000) + "\n" // long ones: the flood is to be counted, not to be matched
	f := &fake{text: bytes.NewReader(bytes.Repeat([]byte(line), loudest/len(line)+2)), hang: true}
	test := fakeTest()
	test.Timeout = 5 * time.Minute
	v, err := Run(context.Background(), f, vm.TCG, romFile(t), test, t.TempDir())
	if err != nil || v.Pass || !strings.Contains(v.Reason, "printed more than 64 MiB") {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestFaultsAreNoVerdicts(t *testing.T) {
	host := fault.New(fault.Host, "start", "no QEMU")
	bad := func(change func(*Test)) Test { test := fakeTest(); change(&test); return test }
	for _, c := range []struct {
		name string
		fake fake
		test Test
		kind fault.Kind
		want string
	}{
		{"preflight", fake{preflight: host}, fakeTest(), fault.Host, "no QEMU"},
		{"start", fake{start: host}, fakeTest(), fault.Host, "no QEMU"},
		{"QEMU dies", fake{fate: fault.New(fault.Host, "run", "QEMU ended on its own: signal 9 (killed)")}, fakeTest(), fault.Host,
			"before a line was printed; expectation 1 of 2 never came: ‘^one$’: run: QEMU ended on its own: signal 9 (killed)"},
		{"no expectation", fake{}, bad(func(t *Test) { t.Expect = nil }), fault.Input, "proves nothing"},
		{"bad pattern", fake{}, bad(func(t *Test) { t.Forbid = []string{"ok", "(version"} }), fault.Input, "forbid[1]"},
		{"no machine", fake{}, bad(func(t *Test) { t.Machine = "" }), fault.Input, "versioned type"},
		{"unknown console", fake{}, bad(func(t *Test) { t.Console = "vga" }), fault.Input, `"vga", expected serial or debugcon`},
		{"a picture of nothing", fake{}, bad(func(t *Test) { t.Headless, t.Steps, t.Expect = true, []Step{{Text: "x"}, {Screenshot: "x"}}, nil }), fault.Input,
			"step 2: a screenshot: the machine has no screen"},
		{"debugcon without a log", fake{}, bad(func(t *Test) { t.Console = DebugCon }), fault.Usage, "serial console only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.fake
			f.text = strings.NewReader("")
			v, err := Run(context.Background(), &f, vm.TCG, romFile(t), c.test, t.TempDir())
			if v != nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v (%v); want a %v with %q", v, err, fault.KindOf(err), c.kind, c.want)
			}
		})
	}
}

func TestVerdictErrCarriesTheEvidence(t *testing.T) {
	v := &Verdict{Test: "q35", Reason: "it did not", ConsoleTail: "last words", Stderr: "oops", CommandLine: "qemu -bios x"}
	e, ok := errors.AsType[*fault.Error](v.Err())
	if !ok || e.Kind != fault.Smoke || len(e.Evidence) != 3 || e.Evidence[0].Text != "last words" || e.Evidence[2].Text != "qemu -bios x" {
		t.Errorf("%+v", e)
	}
	if got := e.Error(); got != "smoke test q35: it did not" {
		t.Errorf("%q", got)
	}
}
