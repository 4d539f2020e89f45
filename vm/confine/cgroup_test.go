package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// made is a hierarchy of plain files, as far as Belljar looks: a folder gets the kernel's files when it is made.
type made struct {
	t    *testing.T
	root string
}

func newMade(t *testing.T) *made {
	m := &made{t: t, root: filepath.Join(t.TempDir(), "cgroup")}
	m.mkdirAll("")
	return m
}

func (m *made) write(path, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, path), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *made) read(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// mkdirAll makes a cgroup and those above it.
func (m *made) mkdirAll(path string) {
	m.t.Helper()
	full := m.root
	for _, part := range strings.Split(path, "/") {
		full = filepath.Join(full, part)
		if err := m.mkdir(full, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			m.t.Fatal(err)
		}
	}
}

func (m *made) mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	for _, name := range []string{
		"cgroup.procs", "cgroup.subtree_control", "memory.max", "memory.swap.max", "cpu.max", "pids.max",
	} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(path, "cgroup.controllers"), []byte("cpuset cpu io memory pids\n"), 0o644)
}

// fs is the hierarchy as a process in the cgroup self sees it.
func (m *made) fs(self, root string) *cgroupfs {
	m.t.Helper()
	dir := m.t.TempDir()
	files := map[string]string{
		"cgroup": "9:name=systemd:/elsewhere\n0::" + self + "\n",
		"mounts": "22 1 0:20 / /proc rw shared:5 - proc proc rw\n" +
			"30 23 0:26 " + root + " " + m.root + " rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	return &cgroupfs{self: filepath.Join(dir, "cgroup"), mounts: filepath.Join(dir, "mounts"), mkdir: m.mkdir}
}

var someLimits = Limits{Memory: 3 << 30, CPUs: 3, Tasks: 258}

// Alone in a delegated cgroup, Belljar moves down, hands the controllers down and makes a cgroup with limits.
func TestCgroup(t *testing.T) {
	m := newMade(t)
	m.mkdirAll("user.slice/run-1.scope")
	m.write("user.slice/run-1.scope/cgroup.procs", strconv.Itoa(os.Getpid())+"\n")
	g, err := m.fs("/user.slice/run-1.scope", "/").make(someLimits)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(m.root, "user.slice/run-1.scope")
	if got := filepath.Dir(g.Path); got != base {
		t.Errorf("made in %s, want %s", got, base)
	}
	rel, err := filepath.Rel(m.root, g.Path)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"user.slice/run-1.scope/belljar/cgroup.procs":   strconv.Itoa(os.Getpid()),
		"user.slice/run-1.scope/cgroup.subtree_control": "+memory +cpu +pids",
		rel + "/memory.max":                             "3221225472",
		rel + "/memory.swap.max":                        "3221225472",
		rel + "/cpu.max":                                "300000 100000",
		rel + "/pids.max":                               "258",
	} {
		if got := m.read(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}

	// The next machine finds Belljar moved and the controllers handed down.
	m.write("user.slice/run-1.scope/cgroup.procs", "")
	m.write("user.slice/run-1.scope/cgroup.subtree_control", "cpu memory pids\n")
	again, err := m.fs("/user.slice/run-1.scope/belljar", "/").make(someLimits)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(again.Path) != base || again.Path == g.Path {
		t.Errorf("the second is %s, the first %s", again.Path, g.Path)
	}
}

// A container sees its own part of the hierarchy alone.
func TestCgroupBelowAMountedPart(t *testing.T) {
	m := newMade(t)
	m.mkdirAll("job")
	g, err := m.fs("/docker/abc/job", "/docker/abc").make(someLimits)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(m.root, "job"); filepath.Dir(g.Path) != want {
		t.Errorf("made %s, want it below %s", g.Path, want)
	}
}

func TestCgroupNotDelegated(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *made, fs *cgroupfs)
		want  string
	}{
		"cgroup v1 alone": {func(m *made, fs *cgroupfs) {
			if err := os.WriteFile(fs.self, []byte("4:memory:/x\n"), 0o644); err != nil {
				m.t.Fatal(err)
			}
		}, "no cgroup v2"},
		"not mounted": {func(_ *made, fs *cgroupfs) { fs.mounts = "/dev/null" }, "no cgroup v2"},
		"v1 has the controllers": {func(m *made, _ *cgroupfs) {
			m.write("a/cgroup.controllers", "hugetlb\n")
		}, "no memory, cpu, pids"},
		"others are in it": {func(m *made, _ *cgroupfs) {
			m.write("a/cgroup.procs", fmt.Sprintf("1\n%d\n", os.Getpid()))
		}, "other programs are in"},
		"root, without systemd's mark": {func(_ *made, fs *cgroupfs) { fs.root = true }, "not delegated"},
		"no permission": {func(m *made, fs *cgroupfs) {
			if os.Getuid() == 0 {
				fs.root = true // nothing is forbidden to root; the mark is missing as well
				return
			}
			if err := os.Chmod(filepath.Join(m.root, "a/cgroup.procs"), 0o444); err != nil {
				m.t.Fatal(err)
			}
		}, "not delegated"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMade(t)
			m.mkdirAll("a")
			fs := m.fs("/a", "/")
			c.spoil(m, fs)
			_, err := fs.make(someLimits)
			e, ok := errors.AsType[*NotDelegated](err)
			if !ok || !strings.Contains(e.Reason, c.want) || e.Remedy == "" {
				t.Errorf("make: %v, want a *NotDelegated with %q and a remedy", err, c.want)
			}
		})
	}
}

// Cgroups of Belljars that died are swept; those of live ones, and what is not Belljar's, stay.
func TestCgroupSweep(t *testing.T) {
	m := newMade(t)
	m.mkdirAll("a")
	const nobody = 1 << 30 // above the kernel's highest process id
	stale := filepath.Join(m.root, "a", fmt.Sprintf("belljar-%d-1", nobody))
	stay := []string{
		filepath.Join(m.root, "a", fmt.Sprintf("belljar-%d-7", os.Getpid())), filepath.Join(m.root, "a", "belljar-mine"),
	}
	for _, path := range append(stay, stale) {
		if err := os.Mkdir(path, 0o755); err != nil { // empty, as the kernel's look to rmdir
			t.Fatal(err)
		}
	}
	if _, err := m.fs("/a", "/").make(someLimits); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", stale, err)
	}
	for _, path := range stay {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// The real thing, where this host has it; where it has not, the error says why.
func TestCgroupOfThisHost(t *testing.T) {
	g, err := NewCgroup(someLimits)
	if err != nil {
		e, ok := errors.AsType[*NotDelegated](err)
		if !ok {
			t.Fatal(err)
		}
		t.Skipf("%s (%s)", e.Reason, e.Remedy)
	}
	t.Cleanup(g.Remove)
	for name, want := range map[string]string{"memory.max": "3221225472\n", "cpu.max": "300000 100000\n", "pids.max": "258\n"} {
		if got, err := os.ReadFile(filepath.Join(g.Path, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\tqemu\nUid:\t61234\t61235\t61234\t61234\nGid:\t1\t2\t3\t4\nGroups:\t108 9 \n" +
		"CapEff:\t000001fffeffffff\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	s, err := parseStatus(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Status{UID: 61235, GID: 2, Groups: []int{108, 9}, Capabilities: 0x1fffeffffff, NoNewPrivs: true, Seccomp: 2}
	if fmt.Sprint(s) != fmt.Sprint(want) {
		t.Errorf("status %+v, want %+v", s, want)
	}
	for _, bad := range []string{"", "Uid:\t1\n", "Uid:\tx y\nGid:\t1 1\n", "Uid:\t1 1\nGid:\t1 1\nCapEff:\tz\n", "Uid:\t1 1\n"} {
		if _, err := parseStatus(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
