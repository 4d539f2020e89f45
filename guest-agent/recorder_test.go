package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// recorded is a jar whose root is an overlay at root and whose build folder lies on a file system of its own, while
// what runs there is recorded.
type recorded struct {
	*recorder
	t           *testing.T
	root, build string
}

// testEvery stands in for tellEvery, for which no test wants to wait.
const testEvery = 20 * time.Millisecond

func startTestRecorder(t *testing.T) *recorded {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("run this test as root: it mounts file systems and asks the kernel what runs on them")
	}
	base := t.TempDir()
	mount := func(source, at, kind, options string) {
		t.Helper()
		if err := unix.Mount(source, at, kind, 0, options); err != nil {
			t.Fatalf("mount %s at %s: %v", kind, at, err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount("tmpfs", base, "tmpfs", "")
	root, state := base+"/root", base+"/state"
	lower, upper := state+"/lower"+root, state+"/overlay/upper"+root
	for _, dir := range []string{root, lower + "/bin", upper, state + "/overlay/work", base + "/build", base + "/inputs/source/bin"} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	program(t, lower+"/bin/true", "")
	program(t, lower+"/bin/changed", "")
	program(t, lower+"/bin/ld-linux.so.2", "")
	for _, name := range []string{"asis", "changed", "bin/a", "bin/b"} {
		program(t, base+"/inputs/source/"+name, name)
	}
	mount("overlay", root, "overlay", "lowerdir="+lower+",upperdir="+upper+",workdir="+state+"/overlay/work")
	mount("tmpfs", base+"/build", "tmpfs", "")
	for _, dir := range []string{"source", "upper", "work"} {
		must(t, os.Mkdir(base+"/build/"+dir, 0o755))
	}
	// As the agent lays sources in place: a folder that is moved stays where it lies, and so does content whose mode changes.
	mount("overlay", base+"/build/source", "overlay", "lowerdir="+base+"/inputs/source,upperdir="+base+"/build/upper,workdir="+
		base+"/build/work,redirect_dir=on,metacopy=on")
	layers := []layer{
		{"/", state + "/lower", state + "/overlay/upper", wire.FromRoot},
		{base + "/inputs", base + "/inputs", "", wire.FromInput},
		{base + "/build/source", base + "/inputs/source", base + "/build/upper", wire.FromInput},
	}
	r, err := startRecorder(layers, []mounted{{root, true}, {base + "/build", false}, {base + "/build/source", false}}, testEvery)
	must(t, err)
	return &recorded{r, t, root, base + "/build"}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program copies a real program and puts something behind its end, so that its content is its own.
func program(t *testing.T, path, tail string) (digest string) {
	t.Helper()
	data, err := os.ReadFile("/bin/true")
	must(t, err)
	data = append(data, tail...)
	must(t, os.WriteFile(path, data, 0o755))
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// run runs a program by way of a shell, see recorder: this process must not wait for itself.
func (r *recorded) run(path string) {
	r.t.Helper()
	if out, err := exec.Command("/bin/sh", "-c", `"$0"`, path).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", path, err, out)
	}
}

// lines are the programs in short, with the test's folders left out.
func (r *recorded) lines() []string {
	r.t.Helper()
	all, err := r.finish()
	must(r.t, err)
	if all.Lost != 0 {
		r.t.Errorf("%d events lost", all.Lost)
	}
	var lines []string
	for _, p := range all.List {
		path := strings.TrimPrefix(p.Path, filepath.Dir(r.root))
		lines = append(lines, fmt.Sprintf("%s %s %.8s %d", path, p.From, p.SHA256, p.Runs))
	}
	if all.Unlisted != 0 {
		lines = append(lines, fmt.Sprintf("unlisted %d", all.Unlisted))
	}
	return lines
}

func TestRecorder(t *testing.T) {
	r := startTestRecorder(t)
	for range 3 {
		r.run(r.root + "/bin/true") // the root's own
	}
	changed := program(t, r.root+"/bin/changed", "changed")
	r.run(r.root + "/bin/changed") // in the root's upper layer: not the root's own

	conftest := r.build + "/conftest"
	first := program(t, conftest, "first")
	r.run(conftest)
	r.run(conftest)
	must(t, os.Remove(conftest)) // deleted before anybody asks
	second := program(t, conftest, "second")
	r.run(conftest)
	must(t, os.Remove(conftest))

	script := "#!" + r.root + "/bin/true\n"
	must(t, os.WriteFile(r.build+"/script", []byte(script), 0o755))
	r.run(r.build + "/script")
	scriptSum := sha256.Sum256([]byte(script))

	want := []string{
		fmt.Sprintf("/build/conftest made %.8s 2", first),
		fmt.Sprintf("/build/conftest made %.8s 1", second),
		fmt.Sprintf("/build/script made %x 1", scriptSum[:4]),
		fmt.Sprintf("/root/bin/changed made %.8s 1", changed),
		"/root/bin/true root  4", // the script's interpreter is run as well
	}
	slices.Sort(want)
	got := r.lines()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An input counts as one only where it lies and as it came.
func TestRecorderKnowsInputs(t *testing.T) {
	r := startTestRecorder(t)
	source := r.build + "/source/"
	r.run(source + "asis")
	program(t, source+"changed", "anew")
	r.run(source + "changed")
	must(t, os.Rename(source+"bin", source+"moved"))
	must(t, os.Rename(source+"moved/a", source+"moved/b"))
	r.run(source + "moved/b")
	program(t, source+"copy", "asis")
	r.run(source + "copy")
	var got []string
	for _, line := range r.lines() {
		f := strings.Fields(line)
		got = append(got, strings.TrimPrefix(f[0], "/build/source/")+" "+f[1])
	}
	want := []string{"asis input", "changed made", "copy made", "moved/b made"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The dynamic linker is run along with every program: it is in the list, and costs no more than that.
func TestRecorderIgnoresTheLinker(t *testing.T) {
	r := startTestRecorder(t)
	linker := r.root + "/bin/ld-linux.so.2"
	r.run(linker)
	time.Sleep(5 * testEvery)
	r.run(linker)
	r.run(r.root + "/bin/true")
	if got, want := r.lines(), []string{"/root/bin/ld-linux.so.2 root  1", "/root/bin/true root  1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is run by a descriptor alone (fexecve(3)) has no name that could be looked up.
func TestRecorderSeesDescriptors(t *testing.T) {
	r := startTestRecorder(t)
	digest := program(t, r.build+"/hidden", "hidden")
	f, err := os.Open(r.build + "/hidden")
	must(t, err)
	defer f.Close()
	must(t, os.Remove(r.build+"/hidden"))
	cmd := exec.Command("/bin/sh", "-c", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	must(t, cmd.Run())
	want := fmt.Sprintf("/build/hidden made %.8s 1", digest)
	if got := r.lines(); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A configure script that makes program after program of one name.
func TestRecorderIsBounded(t *testing.T) {
	r := startTestRecorder(t)
	const more = 5
	for i := range wire.MaxContents + more {
		must(t, os.WriteFile(r.build+"/new", fmt.Appendf(nil, "#!%s/bin/true\n%d", r.root, i), 0o755))
		must(t, os.Rename(r.build+"/new", r.build+"/conftest"))
		r.run(r.build + "/conftest")
	}
	got := r.lines()
	// The rest has no digest, and so sorts first.
	if want := fmt.Sprintf("/build/conftest made  %d", more); len(got) != wire.MaxContents+2 || got[0] != want {
		t.Errorf("%d lines, the first %q; want %d, %q", len(got), got[0], wire.MaxContents+2, want)
	}
}

func TestLedgerFitsAMessage(t *testing.T) {
	l := newLedger(nil)
	path := "/" + strings.Repeat("\x01", 3000) // each byte takes six in JSON
	for i := range 2 * wire.MaxPrograms {
		name := fmt.Sprint("/build/", i)
		if i%2 == 0 {
			name = path + name
		}
		l.place(wire.Program{Path: name, From: wire.FromMade, SHA256: strings.Repeat("a", 64), Size: 1 << 40, Runs: 1 << 40})
	}
	var out bytes.Buffer
	m := &wire.Message{ID: 1, Kind: wire.KindResult, Result: &wire.Result{Programs: l.programs()}}
	must(t, wire.NewWriter(&out).Write(m))
}

// memfdChild makes the test's own program try what a stage could: a program in a file without a name.
const memfdChild = "BELLJAR_TEST_MEMFD"

func TestWithoutMemfd(t *testing.T) {
	if os.Getenv(memfdChild) != "" {
		runtime.LockOSThread()
		must(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		if os.Getenv(memfdChild) == "closed" {
			must(t, withoutMemfd())
		}
		_, err := unix.MemfdCreate("hidden", 0)
		fmt.Printf("memfd_create: %v\n", err)
		return
	}
	for _, tt := range []struct{ name, want string }{
		{"open", "memfd_create: <nil>"},
		{"closed", "memfd_create: " + unix.ENOSYS.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestWithoutMemfd$")
			cmd.Env = append(os.Environ(), memfdChild+"="+tt.name)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v, printed %q, want %q", err, out, tt.want)
			}
		})
	}
}

func TestRunnable(t *testing.T) {
	// A guest's, shortened: proc_pid_mountinfo(5).
	const info = `22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
24 28 0:5 / /dev rw,relatime - devtmpfs dev rw,size=997756k
25 28 0:21 / /belljar rw,relatime - tmpfs belljar rw
26 25 254:0 / /belljar/lower ro,relatime - erofs /dev/dm-0 ro,user_xattr
28 1 0:22 / / rw,relatime - overlay root rw,lowerdir=/belljar/lower
29 24 0:23 / /dev/pts rw,relatime - devpts devpts rw,gid=5
30 28 254:16 / /inputs ro,nosuid,nodev,relatime shared:1 - erofs /dev/vdb ro
31 28 254:32 / /build rw,nosuid,nodev,noatime - ext4 /dev/vdc rw
40 31 0:30 / /build/sources/a\040b rw - overlay overlay rw
`
	file := filepath.Join(t.TempDir(), "mountinfo")
	must(t, os.WriteFile(file, []byte(info), 0o600))
	got, err := runnable(file, "/belljar")
	must(t, err)
	want := []mounted{{"/dev", false}, {"/", true}, {"/inputs", true}, {"/build", false}, {"/build/sources/a b", false}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, os.WriteFile(file, []byte("22 28 0:20 /\n"), 0o600))
	if _, err := runnable(file, "/belljar"); err == nil || !strings.Contains(err.Error(), "want at least 10 fields") {
		t.Errorf("a line cut off: %v", err)
	}
}
