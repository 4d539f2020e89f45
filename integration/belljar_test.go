package integration

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that should come soon, and once came within a tenth of it.
const patience = 5 * time.Minute

// belljar is the program on one folder of its own.
type belljar struct {
	t   testing.TB
	dir string
	cwd string   // where it is called, and where out/ lands
	env []string // beside the test's own

	program string // empty: the one that all tests share
}

// onShared is the program on the folder that all tests share.
func onShared(t testing.TB) *belljar {
	return &belljar{t: t, dir: sharedDir, cwd: t.TempDir()}
}

// onClone is the program on a folder whose store holds what the shared one does, object by object, and remembers the
// results of the kinds that are named. What it makes and breaks stays its own.
func onClone(t testing.TB, kinds ...string) *belljar {
	t.Helper()
	b := onEmpty(t)
	from, to := filepath.Join(sharedDir, "store"), filepath.Join(b.dir, "store")
	copyTree(t, filepath.Join(from, "objects"), filepath.Join(to, "objects"), os.Link)
	copyTree(t, filepath.Join(from, "version"), filepath.Join(to, "version"), copyFile)
	for _, k := range kinds {
		copyTree(t, filepath.Join(from, "refs", k), filepath.Join(to, "refs", k), copyFile)
	}
	return b
}

// onEmpty is the program on a new folder, which lies beside the shared one so that files can be linked.
func onEmpty(t testing.TB) *belljar {
	t.Helper()
	parent := sharedDir + "-scratch"
	must(t, os.MkdirAll(parent, 0o700))
	dir, err := os.MkdirTemp(parent, "")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return &belljar{t: t, dir: dir, cwd: t.TempDir()}
}

func copyTree(t testing.TB, from, to string, copy func(from, to string) error) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return copy(path, filepath.Join(to, rel))
	}))
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// event is a line of --json.
type event struct {
	Time                    time.Time
	Kind, Phase, Name, Text string
	Result                  json.RawMessage
	Error                   *failure
}

// failure is the error of --json.
type failure struct {
	Kind     string
	Message  string
	Remedy   string
	ExitCode int `json:"exit_code"`
	Run      string
	Evidence []struct{ Title, Text string }
}

// all is everything that a person would read of it.
func (f *failure) all() string {
	text := f.Message + "\n" + f.Remedy + "\n"
	for _, e := range f.Evidence {
		text += e.Title + ":\n" + e.Text + "\n"
	}
	return text
}

// outcome is what a call came to.
type outcome struct {
	code           int // -1 if a signal ended it
	stdout, stderr string
	events         []event
	took           time.Duration
}

// result decodes the result of --json.
func (o *outcome) result(t testing.TB, v any) {
	t.Helper()
	for _, e := range o.events {
		if e.Kind == "result" {
			must(t, json.Unmarshal(e.Result, v))
			return
		}
	}
	t.Fatalf("no result in\n%s%s", o.tail(), o.stderr)
}

// failure is the error of --json, and must be there.
func (o *outcome) failure(t testing.TB) *failure {
	t.Helper()
	for _, e := range o.events {
		if e.Error != nil {
			return e.Error
		}
	}
	t.Fatalf("no error in\n%s%s", o.tail(), o.stderr)
	return nil
}

// log is what guest and build printed.
func (o *outcome) log() string {
	var b strings.Builder
	for _, e := range o.events {
		if e.Kind == "log" {
			fmt.Fprintln(&b, e.Text)
		}
	}
	return b.String()
}

func (o *outcome) tail() string {
	const most = 4000
	return o.stdout[max(0, len(o.stdout)-most):]
}

// run calls the program and waits for its end.
func (b *belljar) run(args ...string) *outcome {
	b.t.Helper()
	return b.start(nil, args...).wait()
}

// succeed is run for a call that must go well.
func (b *belljar) succeed(args ...string) *outcome {
	b.t.Helper()
	return b.exit(0, args...)
}

// exit is run for a call whose exit code is known.
func (b *belljar) exit(code int, args ...string) *outcome {
	b.t.Helper()
	o := b.run(args...)
	if o.code != code {
		b.t.Fatalf("belljar %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), o.code, code, o.tail(), o.stderr)
	}
	return o
}

// built calls build for what may take hours, which must go well. Only the tests' own limit (-timeout) ends it.
func (b *belljar) built(args ...string) (r built, took time.Duration) {
	b.t.Helper()
	o := b.start(nil, append([]string{"build", "--json"}, args...)...).waitFor(24 * time.Hour)
	if o.code != 0 {
		b.t.Fatalf("belljar build %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.tail(), o.stderr)
	}
	o.result(b.t, &r)
	return r, o.took
}

// process is a call that goes on.
type process struct {
	t      testing.TB
	b      *belljar
	cmd    *exec.Cmd
	began  time.Time
	stderr bytes.Buffer
	done   chan struct{} // closed when out holds the outcome
	out    outcome

	mu     sync.Mutex
	news   chan struct{} // closed and replaced at each event
	events []event
	stdout strings.Builder
}

// start calls the program. If the test ends before the call does, the call is killed.
func (b *belljar) start(stdin io.Reader, args ...string) *process {
	b.t.Helper()
	cmd := exec.Command(cmp.Or(b.program, program), append([]string{"--dir", b.dir}, args...)...)
	cmd.Dir, cmd.Stdin = b.cwd, stdin
	cmd.Env = append(os.Environ(), b.env...)
	return b.startCommand(cmd)
}

func (b *belljar) startCommand(cmd *exec.Cmd) *process {
	b.t.Helper()
	p := &process{t: b.t, b: b, cmd: cmd, began: time.Now(), done: make(chan struct{}), news: make(chan struct{})}
	cmd.Stderr = &p.stderr
	out, err := cmd.StdoutPipe()
	must(b.t, err)
	must(b.t, cmd.Start())
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	go p.read(out)
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.done)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		p.take(line)
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait() // the code says it
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = outcome{
		code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String(), events: p.events,
		took: time.Since(p.began),
	}
}

func (p *process) take(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stdout.Write(line)
	var e event
	if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &e) == nil {
		p.events = append(p.events, e)
	}
	close(p.news)
	p.news = make(chan struct{})
}

// await returns the first event that fits.
func (p *process) await(what string, fits func(event) bool) event {
	p.t.Helper()
	late := time.After(patience)
	for seen := 0; ; {
		p.mu.Lock()
		events, news := p.events, p.news
		p.mu.Unlock()
		for ; seen < len(events); seen++ {
			if fits(events[seen]) {
				return events[seen]
			}
		}
		select {
		case <-news:
		case <-p.done:
			p.t.Fatalf("it ended (exit code %d) before %s:\n%s%s", p.out.code, what, p.out.tail(), p.out.stderr)
		case <-late:
			p.t.Fatalf("no %s within %s", what, patience)
		}
	}
}

func (p *process) awaitPhase(phase string) {
	p.t.Helper()
	p.await("phase "+phase, func(e event) bool { return e.Kind == "start" && e.Phase == phase })
}

func (p *process) awaitText(text string) {
	p.t.Helper()
	p.await(strconv.Quote(text), func(e event) bool { return strings.Contains(e.Text, text) })
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// wait returns the outcome once the call has ended.
func (p *process) wait() *outcome { return p.waitFor(30 * time.Minute) }

func (p *process) waitFor(d time.Duration) *outcome {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(d):
		p.t.Fatalf("%v did not end within %s", p.cmd.Args, d)
	}
	return &p.out
}

// runState is what a run's folder says of it.
type runState struct {
	path  string
	ID    string
	PID   int
	State string
	What  string
}

// run finds the run that a process has begun.
func (p *process) run() runState {
	p.t.Helper()
	var found runState
	eventually(p.t, patience, "a run of process "+strconv.Itoa(p.cmd.Process.Pid), func() bool {
		files, _ := filepath.Glob(filepath.Join(p.b.dir, "runs", "*", "run.json"))
		for i := len(files) - 1; i >= 0; i-- {
			s, err := readRun(filepath.Dir(files[i]))
			if err == nil && s.PID == p.cmd.Process.Pid {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func readRun(path string) (s runState, err error) {
	data, err := os.ReadFile(filepath.Join(path, "run.json"))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	s.path = path
	return s, err
}

// machines are the process ids of the QEMUs that run in a folder or below it: each works in its own folder.
func machines(folder string) []int {
	var pids []int
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		name, _ := os.ReadFile(filepath.Join(proc, "comm"))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if bytes.HasPrefix(name, []byte("qemu-system")) && strings.HasPrefix(strings.TrimSuffix(cwd, " (deleted)")+"/", folder+"/") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			pids = append(pids, pid)
		}
	}
	return pids
}

func awaitMachine(t testing.TB, folder string) {
	t.Helper()
	eventually(t, patience, "QEMU in "+folder, func() bool { return len(machines(folder)) > 0 })
}

func noMachine(t testing.TB, folder string, within time.Duration) {
	t.Helper()
	eventually(t, within, "end of every QEMU in "+folder, func() bool { return len(machines(folder)) == 0 })
}

// unlocked says that nobody holds the lock on a run's folder or, where nobody else may, on the store; and that nothing
// half-made lies there.
func (b *belljar) unlocked(run string) {
	b.t.Helper()
	locks := []string{filepath.Join(run, "lock")}
	if b.dir != sharedDir {
		locks = append(locks, filepath.Join(b.dir, "store", "lock"))
		if left, _ := filepath.Glob(filepath.Join(b.dir, "store", "tmp", "*")); len(left) > 0 {
			b.t.Errorf("left in the store: %q", left)
		}
	}
	for _, name := range locks {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(b.t, err)
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			b.t.Errorf("lock %s: %v", name, err)
		}
	}
}

func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %s", what, within)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

// offlineLock locks a spec that names seabios's packages and sources, with no network: see specs.NeedsResolve.
func offlineLock(spec string, call func(args ...string) error) error {
	lock := strings.TrimSuffix(spec, ".yaml") + ".lock.json"
	if err := copyFile(filepath.Join(sources, "specs", "shipped", "roms", "seabios.lock.json"), lock); err != nil {
		return err
	}
	// A mirror that nobody listens to: had the archive to be asked, this would fail.
	err := call("--dir", sharedDir, "--mirror", "http://127.0.0.1:9/debian", "lock", spec)
	if err != nil {
		return fmt.Errorf("lock %s: %w", spec, err)
	}
	return nil
}

// spec writes a spec and its lock into the folder in which the program is called, and returns its name.
func (b *belljar) spec(name, text string) string {
	b.t.Helper()
	file := filepath.Join(b.cwd, name+".yaml")
	must(b.t, os.WriteFile(file, []byte(text), 0o644))
	must(b.t, offlineLock(file, func(args ...string) error {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	}))
	return "./" + name + ".yaml"
}
