package vmtest

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// Suite is a backend and how to make its machines do what the cases need.
type Suite struct {
	Backend vm.Backend
	// Machine is a machine that says line on its serial console and then acts. Its files go to dir.
	Machine func(t *testing.T, dir, line string, then Act) vm.Machine
	// Echo is a machine whose port 'echo' sends back what it gets, and that runs until it is closed.
	Echo func(t *testing.T, dir string) vm.Machine
	// Kill ends the machine's process from outside, as the host's OOM killer would.
	Kill func(t *testing.T, g vm.Guest)
}

// patience bounds every wait of the suite: far above what a machine needs, even on a busy host.
const patience = 60 * time.Second

// echoBytes go over a port and back: far more than any buffer on the way holds.
const echoBytes = 8 << 20

const line = "conformance: hello from the machine"

// Conformance holds a backend to the contract of vm.Backend and vm.Guest.
func Conformance(t *testing.T, s Suite) {
	t.Run("a shutdown is no error", s.shutdown)
	t.Run("a panic is the guest's fault", func(t *testing.T) { s.faulty(t, Panic, "panicked") })
	t.Run("a reset is the guest's fault", func(t *testing.T) { s.faulty(t, Reset, "reset") })
	t.Run("a killed machine is the host's fault", s.killed)
	t.Run("each console reader starts at power-on", s.readers)
	t.Run("closing a console reader ends its read", s.closeReader)
	t.Run("close ends a hanging machine, twice", s.closes)
	t.Run("the context's end is the machine's end", s.cancelled)
	t.Run("progress grows, and tells sleeping from spinning", s.progress)
	t.Run("a screen is shown", s.shown)
	t.Run("a bad machine does not start", s.refused)
	t.Run("a writable disk can be read", s.disk)
	t.Run("a port carries bytes both ways", s.echo)
	if _, ok := s.Backend.(vm.Restorer); ok {
		t.Run("a saved machine goes on elsewhere", s.restored)
		t.Run("a damaged state does not start", s.badState)
	}
}

// start boots a machine in a new folder and checks, at the test's end, that it left nothing there but plain files.
func (s Suite) start(ctx context.Context, t *testing.T, then Act) vm.Guest {
	t.Helper()
	dir := t.TempDir()
	return s.boot(ctx, t, s.Machine(t, dir, line, then), dir)
}

func (s Suite) boot(ctx context.Context, t *testing.T, m vm.Machine, dir string) vm.Guest {
	t.Helper()
	if err := s.Backend.Preflight(ctx, m); err != nil {
		t.Fatalf("preflight: %v", err)
	}
	g, err := s.Backend.Start(ctx, m, dir)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		g.Close()
		leftovers(t, dir)
	})
	return g
}

func leftovers(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&^fs.ModeDir != 0 {
			t.Errorf("left behind: %s (%s)", path, d.Type())
		}
		return nil
	})
}

// await fails the test if f takes too long.
func await[T any](t *testing.T, what string, f func() T) T {
	t.Helper()
	got := make(chan T, 1)
	go func() { got <- f() }()
	select {
	case v := <-got:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %s", what, patience)
		panic("unreachable")
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	return await(t, "console's end", func() string {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("read console: %v", err)
		}
		return string(b)
	})
}

func (s Suite) shutdown(t *testing.T) {
	g := s.start(t.Context(), t, PowerOff)
	if out := readAll(t, g.Console()); !strings.Contains(out, line) {
		t.Errorf("console is %q, want the line %q in it", out, line)
	}
	if err := await(t, "wait", g.Wait); err != nil {
		t.Errorf("wait: %v, want nil", err)
	}
}

func (s Suite) faulty(t *testing.T, then Act, word string) {
	g := s.start(t.Context(), t, then)
	err := await(t, "wait", g.Wait)
	checkFault(t, err, fault.Guest, word)
}

// checkFault wants a kind, a telling word, and the console's last line as evidence.
func checkFault(t *testing.T, err error, kind fault.Kind, word string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != kind {
		t.Fatalf("wait: %v (kind %s), want a %s", err, fault.KindOf(err), kind)
	}
	if !strings.Contains(e.Error(), word) {
		t.Errorf("wait: %q, want the word %q in it", e, word)
	}
	for _, ev := range e.Evidence {
		if strings.Contains(ev.Text, line) {
			return
		}
	}
	t.Errorf("no evidence holds the console's line: %+v", e.Evidence)
}

// untilLine reads a console until the machine has said its line.
func untilLine(t *testing.T, g vm.Guest) {
	t.Helper()
	r := g.Console()
	defer r.Close()
	err := await(t, "the machine's line", func() error {
		var all []byte
		buf := make([]byte, 256)
		for {
			n, err := r.Read(buf)
			if all = append(all, buf[:n]...); strings.Contains(string(all), line) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w after %q", err, all)
			}
		}
	})
	if err != nil {
		t.Errorf("console ended with %v", err)
	}
}

func (s Suite) killed(t *testing.T) {
	g := s.start(t.Context(), t, Hang)
	untilLine(t, g)
	s.Kill(t, g)
	checkFault(t, await(t, "wait", g.Wait), fault.Host, "killed")
}

func (s Suite) readers(t *testing.T) {
	g := s.start(t.Context(), t, PowerOff)
	early := g.Console()
	defer early.Close()
	first := readAll(t, early)
	late := g.Console() // the machine is gone
	defer late.Close()
	if second := readAll(t, late); first != second || !strings.Contains(first, line) {
		t.Errorf("readers differ: %q and %q", first, second)
	}
}

func (s Suite) closeReader(t *testing.T) {
	g := s.start(t.Context(), t, Hang)
	untilLine(t, g)
	r := g.Console()
	time.AfterFunc(50*time.Millisecond, func() { r.Close() })
	if err := await(t, "read", func() error { _, err := io.ReadAll(r); return err }); err == nil {
		t.Error("read: nil, want an error")
	}
}

func (s Suite) closes(t *testing.T) {
	g := s.start(t.Context(), t, Hang)
	untilLine(t, g)
	for range 2 {
		if err := await(t, "close", g.Close); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := await(t, "wait", g.Wait); err != nil {
		t.Errorf("wait after close: %v, want nil", err)
	}
}

func (s Suite) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := s.start(ctx, t, Hang)
	untilLine(t, g)
	cancel()
	if err := await(t, "wait", g.Wait); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v, want context.Canceled", err)
	}
}

// disk reads a disk while the machine runs and after it has ended. A ROM of a few bytes does not write to it: that what a
// guest wrote comes back is for the tests of whole builds to show.
func (s Suite) disk(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	want := []byte(strings.Repeat("what the disk began with. ", 10000))
	m := s.Machine(t, dir, line, Hang)
	for _, d := range []vm.Disk{{Serial: "mine"}, {Serial: "sealed", ReadOnly: true}} {
		d.Bus, d.Path = vm.BusVirtio, filepath.Join(dir, d.Serial+".img")
		if err := os.WriteFile(d.Path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(d.Path, size); err != nil { // the rest is a hole
			t.Fatal(err)
		}
		m.Disks = append(m.Disks, d)
	}
	g := s.boot(t.Context(), t, m, dir)
	r, ok := g.(vm.DiskReader)
	if !ok {
		t.Fatal("the guest is no vm.DiskReader")
	}
	untilLine(t, g)
	want = append(want, make([]byte, size-len(want))...)
	for _, n := range []int64{0, 1, 5000, size, size + 512} {
		if got := s.head(t, r, "mine", n); string(got) != string(want[:min(n, size)]) {
			t.Errorf("the first %d bytes: %d others came", n, len(got))
		}
	}
	for _, serial := range []string{"sealed", "nosuch"} {
		if _, err := r.OpenDisk(t.Context(), serial, 1); fault.KindOf(err) != fault.Usage {
			t.Errorf("open disk %s: %v, want a usage fault", serial, err)
		}
	}
	s.Kill(t, g)
	_ = await(t, "wait", g.Wait)
	if got := s.head(t, r, "mine", 5000); string(got) != string(want[:5000]) {
		t.Errorf("after the machine's end: %d other bytes came", len(got))
	}
	if f, ok := g.(vm.DiskFollower); ok {
		follow(t, f, "mine", want)
	}
}

// head reads the first n bytes of a disk, bounded in time.
func (s Suite) head(t *testing.T, g vm.DiskReader, serial string, n int64) []byte {
	t.Helper()
	return await(t, "disk "+serial, func() []byte {
		r, err := g.OpenDisk(t.Context(), serial, n)
		if err != nil {
			t.Errorf("open disk: %v", err)
			return nil
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("read disk: %v", err)
		}
		return b
	})
}

// progress is for backends whose guests are vm.Probers.
func (s Suite) progress(t *testing.T) {
	for then, runs := range map[Act]bool{Spin: true, Hang: false} {
		g := s.start(t.Context(), t, then)
		p, ok := g.(vm.Prober)
		if !ok {
			t.Skip("this backend knows nothing of its machines' progress")
		}
		untilLine(t, g)
		first, last := s.sample(t, p), vm.Progress{}
		if first.Console < int64(len(line)) || first.Halted != "" || first.Mute {
			t.Errorf("a machine that runs and has said its line: %+v", first)
		}
		began := time.Now()
		for last.CPU < first.CPU+time.Second && (runs || time.Since(began) < 2*time.Second) {
			if last = s.sample(t, p); last.CPU < first.CPU || last.Console < first.Console {
				t.Fatalf("progress shrank: %+v, then %+v", first, last)
			}
			if time.Since(began) > patience {
				t.Fatalf("a machine that spins ran for no second within %s: %+v, then %+v", patience, first, last)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if ran, took := last.CPU-first.CPU, time.Since(began); !runs && ran > took/4 {
			t.Errorf("a machine that sleeps ran for %s of %s", ran, took)
		}
		g.Close()
		if _, err := p.Progress(t.Context()); err == nil {
			t.Error("the progress of a machine that is gone: no error")
		}
	}
}

func (s Suite) sample(t *testing.T, p vm.Prober) vm.Progress {
	t.Helper()
	sample, err := p.Progress(t.Context())
	if err != nil {
		t.Fatalf("progress: %v", err)
	}
	return sample
}

// shown is for backends whose guests are vm.Screendumpers.
func (s Suite) shown(t *testing.T) {
	dir := t.TempDir()
	m := s.Machine(t, dir, line, Hang)
	m.Screen = true
	g := s.boot(t.Context(), t, m, dir)
	d, ok := g.(vm.Screendumper)
	if !ok {
		t.Skip("this backend shows no screens")
	}
	untilLine(t, g)
	path, err := d.Screendump(t.Context())
	if err != nil {
		t.Fatalf("screendump: %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	if filepath.Dir(path) != dir {
		t.Errorf("the picture lies in %s, want the machine's folder %s", filepath.Dir(path), dir)
	}
}

func (s Suite) refused(t *testing.T) {
	dir := t.TempDir()
	m := s.Machine(t, dir, line, Hang)
	m.CPUs = 0
	g, err := s.Backend.Start(t.Context(), m, dir)
	if err == nil {
		g.Close()
		t.Fatal("started a machine without a CPU")
	}
	field, ok := errors.AsType[*vm.FieldError](err)
	if !ok || field.Field != "CPUs" {
		t.Errorf("start: %v, want a *vm.FieldError on CPUs", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("folder: %v", err)
	}
	leftovers(t, dir)
}

func (s Suite) echo(t *testing.T) {
	dir := t.TempDir()
	g := s.boot(t.Context(), t, s.Echo(t, dir), dir)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := g.Dial(ctx, "echo")
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("over and back\n", echoBytes/14)
	go func() { _, _ = io.WriteString(c, want) }()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		said, _ := os.ReadFile(filepath.Join(dir, vm.ConsoleLog))
		t.Errorf("echo: %v, %d of %d bytes came, the console said:\n%s", err, n, len(want), said)
	}
	if _, err := g.Dial(ctx, "echo"); err == nil {
		t.Error("a second dial of one port: nil, want an error")
	}
	if _, err := g.Dial(ctx, "nosuch"); fault.KindOf(err) != fault.Usage {
		t.Errorf("dial of a port that is not there: %v, want a usage fault", err)
	}
}

// follow reads a disk as it is and gives a part of it back.
func follow(t *testing.T, g vm.DiskFollower, serial string, want []byte) {
	t.Helper()
	f, err := g.FollowDisk(serial)
	if err != nil {
		t.Errorf("follow disk: %v", err)
		return
	}
	defer f.Close()
	got := make([]byte, 4096)
	if _, err := f.ReadAt(got, 8192); err != nil || string(got) != string(want[8192:12288]) {
		t.Errorf("followed, 4096 bytes at 8192 are others: %v", err)
	}
	if err := f.Discard(4096); err != nil {
		t.Errorf("discard: %v", err)
	}
	if _, err := f.ReadAt(got, 8192); err != nil || string(got) != string(want[8192:12288]) {
		t.Errorf("what lies behind what was given back is another: %v", err)
	}
	if _, err := g.FollowDisk("nosuch"); fault.KindOf(err) != fault.Usage {
		t.Errorf("follow a disk that is not there: %v, want a usage fault", err)
	}
}
