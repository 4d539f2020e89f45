package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/confine"
	"github.com/belljar/belljar/vm/vmtest"
)

// debianParts is a QEMU as Debian installs it.
var debianParts = parts{binary: "/usr/bin/qemu-system-x86_64", loader: "/lib64/ld-linux-x86-64.so.2"}

// What QEMU may open, for each use of a machine: a golden list each, by name and handed over.
func TestPlanGolden(t *testing.T) {
	for name, m := range vmtest.Machines() {
		given, files, flags := handOver(m)
		for suffix, c := range map[string]struct {
			boot  vm.Boot
			files []confine.File
			flags []string
		}{"": {boot: m.Boot}, "-handed-over": {given.Boot, files, flags}} {
			t.Run(name+suffix, func(t *testing.T) {
				var b strings.Builder
				p := plan(m, debianParts, "/r", c.files)
				for i, f := range p.Files {
					fmt.Fprintf(&b, "%d %s write=%t copy=%t\n", confine.FirstFile+i, f.Path, f.Write, f.Copy)
				}
				for _, path := range p.Paths {
					fmt.Fprintf(&b, "%s %s\n", path.Access, path.Path)
				}
				fmt.Fprintf(&b, "boot %s %s %s\n", c.boot.Kernel, c.boot.Initrd, c.boot.ROM)
				if len(c.flags) > 0 {
					b.WriteString(oneFlagALine(c.flags))
				}
				golden(t, filepath.Join("testdata", "plan", name+suffix+".txt"), b.String())
			})
		}
	}
}

func TestPathsOfOtherQEMUs(t *testing.T) {
	for name, c := range map[string]struct {
		parts parts
		want  []confine.Path
	}{
		"from a store": {
			parts{binary: "/nix/store/x-qemu/bin/qemu", loader: "/nix/store/y-glibc/lib/ld.so"},
			[]confine.Path{
				{Path: "/nix/store/x-qemu/bin/qemu", Access: confine.Execute},
				{Path: "/nix/store/y-glibc/lib/ld.so", Access: confine.Execute},
				{Path: "/nix/store", Access: confine.Read}, {Path: "/nix/store/x-qemu/share/qemu", Access: confine.Read},
			},
		},
		"one's own build": {
			parts{binary: "/opt/qemu/bin/qemu"},
			[]confine.Path{
				{Path: "/opt/qemu/lib", Access: confine.Read}, {Path: "/opt/qemu/share/qemu", Access: confine.Read},
			},
		},
		"a script": {
			parts{binary: "/opt/bin/qemu", script: true},
			[]confine.Path{{Path: "/usr/bin", Access: confine.Execute}, {Path: "/usr/lib", Access: confine.Execute}, {Path: "/usr/share/seabios", Access: confine.Read}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			has := map[confine.Path]bool{}
			for _, p := range c.parts.paths() {
				has[p] = true
			}
			for _, want := range c.want {
				if !has[want] {
					t.Errorf("no %v in %v", want, c.parts.paths())
				}
			}
		})
	}
}

// The 32-bit QEMU is a script on Debian, around a program that lies elsewhere: it runs under its confinement too.
func TestI686IsConfined(t *testing.T) {
	g := boot(t, func(dir string) vm.Machine {
		m := romMachine(t, dir, "pc-q35-6.2", "in 32 bits", vmtest.PowerOff)
		m.Arch, m.CPU = vm.I686, "coreduo-v1"
		return m
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, m := range g.Confinement() {
		if m.Name == "sandbox" && !m.Holds {
			t.Errorf("no sandbox: %+v", m)
		}
	}
}

func TestFindParts(t *testing.T) {
	binary, err := (&Backend{}).binary(vm.X86_64)
	if err != nil {
		t.Skip(err)
	}
	p, err := findParts(binary)
	if err != nil || p.script || !strings.Contains(p.loader, "ld") {
		t.Errorf("parts of %s: %+v, %v", binary, p, err)
	}
	script := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if p, err := findParts(script); err != nil || !p.script {
		t.Errorf("parts of a script: %+v, %v", p, err)
	}
}

func TestReachable(t *testing.T) {
	if err := reachable("/bin/true"); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := reachable(program); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("reachable: %v, want an error that names %s", err, dir)
	}
}

// owners notes who owns each file, and its mode.
func owners(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			all[path] = fmt.Sprintf("%d:%d %s", st.Uid, st.Gid, info.Mode())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// qmp runs a monitor command, as whoever has QEMU in his hands could, and gives QEMU's refusal.
func (g *guest) qmp(t *testing.T, command string, args map[string]any) error {
	t.Helper()
	return g.monitor.ask(time.Minute, command, args, nil)
}

// jailed starts a machine whose files lie where only their owner can reach them, and a file of another run's beside it.
func jailed(t *testing.T) (g *guest, folders []string, others string) {
	t.Helper()
	private := filepath.Join(t.TempDir(), "private")
	dir, store, other := filepath.Join(private, "run"), filepath.Join(private, "store"), filepath.Join(private, "other")
	for _, d := range []string{private, dir, store, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	others = filepath.Join(other, "disk.img")
	m := romMachine(t, store, "pc-q35-6.2", "inside", vmtest.Hang)
	if err := os.Chmod(m.Boot.ROM, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Entropy, m.Ports = true, []string{"a", "b"}
	for _, d := range []vm.Disk{
		{Serial: "root", Path: filepath.Join(store, "root.img"), Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: "scratch", Path: filepath.Join(dir, "scratch.img"), Bus: vm.BusVirtio},
		{Serial: "elsewhere", Path: filepath.Join(store, "elsewhere.img"), Bus: vm.BusIDE},
	} {
		m.Disks = append(m.Disks, d)
		if err := os.WriteFile(d.Path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(others, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	started, err := (&Backend{}).Start(t.Context(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { started.Close() })
	return started.(*guest), []string{store, other, dir}, others
}

// patience is far above what QEMU needs, even on a busy host.
const patience = time.Minute

// A QEMU as a build runs it, asked by the kernel and through its own monitor.
func TestConfinedQEMU(t *testing.T) {
	needVM(t)
	before := owners(t, "/dev/null", "/dev/urandom")
	g, folders, others := jailed(t)
	until(t, "the ROM's line", patience, func() bool { return strings.Contains(g.Tail(vm.ConsoleLog, vm.TailLines), "inside") })

	s, err := confine.ReadStatus(g.PID())
	if err != nil {
		t.Fatal(err)
	}
	if s.Seccomp != 2 || !s.NoNewPrivs || s.Capabilities != 0 || len(s.Groups) != 0 && os.Getuid() == 0 {
		t.Errorf("status %+v, want a seccomp filter, no new privileges, no capabilities, no groups", s)
	}
	user, err := confine.TakeUser()
	if own := err == nil; own && (s.UID < 61184 || s.GID != s.UID || s.UID == user.ID) || !own && s.UID != os.Getuid() {
		t.Errorf("QEMU runs as user %d, group %d", s.UID, s.GID)
	}
	for _, m := range g.Confinement() {
		t.Logf("%+v", m)
		if !m.Holds && (m.Name == "sandbox" || m.Name == "user" && user != nil) {
			t.Errorf("%s does not hold: %s", m.Name, m.Text)
		}
	}
	user.Release()
	descriptors(t, g)
	if confine.LandlockABI() > 0 {
		refusals(t, g, others)
	}
	if err := g.qmp(t, "pmemsave", map[string]any{"val": 0, "size": 4096, "filename": "memory.dump"}); err != nil {
		t.Errorf("a file in the machine's own folder: %v", err)
	}
	p, err := listen(t.Context(), g.socket("late.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := g.lendFile("late.sock"); err != nil {
		t.Fatal(err)
	}
	for path, opts := range map[string]map[string]any{"late.sock": {"server": false}, "own.sock": {"server": true, "wait": false}} {
		opts["addr"] = map[string]any{"type": "unix", "data": map[string]any{"path": path}}
		if err := g.qmp(t, "chardev-add", map[string]any{
			"id": path, "backend": map[string]any{"type": "socket", "data": opts},
		}); err != nil {
			t.Errorf("the socket %s in the machine's own folder: %v", path, err)
		}
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for path, who := range owners(t, folders...) {
		if want := fmt.Sprintf("%d:%d ", os.Getuid(), os.Getgid()); !strings.HasPrefix(who, want) || strings.Contains(who, "t") {
			t.Errorf("%s is left as %s", path, who)
		}
	}
	if diff := cmp.Diff(before, owners(t, "/dev/null", "/dev/urandom")); diff != "" {
		t.Errorf("devices changed: %s", diff)
	}
	vmtest.AsOtherUser(t)
}

// A QEMU that wants what it was not given fails, and the error shows what it was given.
func TestRefusalIsExplained(t *testing.T) {
	needVM(t)
	if confine.LandlockABI() == 0 {
		t.Skip("this kernel has no Landlock")
	}
	dir := t.TempDir()
	wanting := filepath.Join(dir, "qemu")
	script := "#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -pidfile /tmp/escaped\n"
	if err := os.WriteFile(wanting, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := (&Backend{Binary: wanting}).Start(t.Context(), romMachine(t, dir, "pc-q35-6.2", "x", vmtest.Hang), dir)
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != fault.Host || !strings.Contains(e.Error(), "'/tmp/escaped': Permission denied") {
		t.Fatalf("start: %v, want a host fault that names the file", err)
	}
	for _, ev := range e.Evidence {
		if ev.Title == "what QEMU may open" && strings.Contains(ev.Text, "folder: "+dir) {
			return
		}
	}
	t.Errorf("no evidence of what QEMU may open: %+v", e.Evidence)
}

// descriptors wants QEMU to hold nothing that leads to what it was not given.
func descriptors(t *testing.T, g *guest) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", g.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || !filepath.IsAbs(path) { // socket:[…], anon_inode:[…]
			continue
		}
		known := strings.HasPrefix(path, g.Dir+"/") || strings.HasPrefix(path, "/memfd:") ||
			path == "/dev/null" || path == "/dev/urandom"
		for _, d := range g.machine.Disks {
			known = known || path == d.Path
		}
		if known = known || path == g.machine.Boot.ROM; !known {
			t.Errorf("QEMU holds descriptor %s: %s", e.Name(), path)
		}
	}
}

// refusals tries to reach out through QEMU.
func refusals(t *testing.T, g *guest, others string) {
	t.Helper()
	file := func(path string) map[string]any {
		return map[string]any{"driver": "file", "node-name": "out", "filename": path, "read-only": true}
	}
	for _, c := range []struct {
		name, command string
		args          map[string]any
	}{
		{"another run's disk", "blockdev-add", file(others)},
		{"a world-readable file", "blockdev-add", file("/etc/passwd")},
		{"a way round by /proc", "blockdev-add", file("/proc/self/cwd/../other/disk.img")},
		{"a file elsewhere", "pmemsave", map[string]any{"val": 0, "size": 4096, "filename": "/tmp/escaped"}},
		{"a log elsewhere", "chardev-add", map[string]any{
			"id": "out", "backend": map[string]any{"type": "file", "data": map[string]any{"out": "/tmp/escaped"}},
		}},
		{"a listener", "chardev-add", map[string]any{
			"id": "out", "backend": map[string]any{"type": "socket", "data": map[string]any{
				"addr":   map[string]any{"type": "inet", "data": map[string]any{"host": "127.0.0.1", "port": "47654"}},
				"server": true, "wait": false,
			}},
		}},
	} {
		err := g.qmp(t, c.command, c.args)
		if err == nil || !strings.Contains(err.Error(), "ermission denied") {
			t.Errorf("%s: %v, want 'Permission denied'", c.name, err)
		}
	}
}
