package confine_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/vm/confine"
	"github.com/belljar/belljar/vm/supervise"
	"github.com/belljar/belljar/vm/vmtest"
)

// imprison sets up a world, and confines a prisoner in it.
func imprison(t *testing.T) (map[string]outcome, confine.Report, *confine.User) {
	t.Helper()
	dir := t.TempDir()
	w := prison{
		Own: filepath.Join(dir, "own"), Others: filepath.Join(dir, "others"), ReadOnly: filepath.Join(dir, "readonly"),
		Program: "/bin/true", Handed: confine.FirstFile + 1,
	}
	for _, d := range []string{w.Own, w.Others} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	for path, mode := range map[string]os.FileMode{filepath.Join(w.Others, "file"): 0o666, w.ReadOnly: 0o666, secret: 0o600} {
		if err := os.WriteFile(path, []byte("something"), mode); err != nil {
			t.Fatal(err)
		}
	}
	// The modes above say yes to all, whatever the umask: it is the walls that are on trial.
	for _, path := range []string{w.Own, w.Others, filepath.Join(w.Others, "file"), w.ReadOnly, dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	listening := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	w.TCP = listening("tcp", "127.0.0.1:0")
	w.Abstract = listening("unix", "@"+dir)
	if err := os.Chmod(listening("unix", filepath.Join(w.Own, "sock")), 0o777); err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	w.UDP = udp.LocalAddr().String()

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plan := confine.Plan{
		Network: true,
		Files:   []confine.File{{Path: self}, {Path: secret}},
		Paths: []confine.Path{
			{Path: self, Access: confine.Execute}, {Path: w.ReadOnly, Access: confine.Read}, {Path: w.Own, Access: confine.Folder},
			// For a test program with the race detector, which is not static.
			{Path: "/lib", Access: confine.Read}, {Path: "/usr/lib", Access: confine.Read}, {Path: "/lib64", Access: confine.Execute},
			{Path: "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Access: confine.Execute},
			{Path: "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Access: confine.Execute},
			{Path: "/etc/ld.so.cache", Access: confine.Read}, {Path: "/dev/null", Access: confine.Write},
		},
	}
	user, err := confine.TakeUser()
	if err == nil {
		t.Cleanup(user.Release)
		plan.UID, plan.Threads = user.ID, 100
	}
	w.Victim = victim(t, plan.UID)

	order, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := supervise.Start(supervise.Command{
		// The folder of a test program is its user's alone: it is run by descriptor.
		Path: "/proc/self/fd/64", Dir: w.Own, Env: []string{prisonerVariable + "=" + string(order)},
		Stdout: out, Stderr: out, Confine: &plan,
	})
	if err != nil {
		t.Fatal(err)
	}
	exit := p.Wait()
	text, _ := os.ReadFile(out.Name())
	outcomes := map[string]outcome{}
	if err := json.Unmarshal(text, &outcomes); err != nil || exit != (supervise.Exit{}) {
		t.Fatalf("the prisoner ended with %v and said %q", exit, text)
	}
	return outcomes, p.Confined, user
}

// victim is a process that the prisoner may do all to, were there only users: it is of the same.
func victim(t *testing.T, uid int) int {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// A confined program can do its work, and nothing else.
func TestPrisoner(t *testing.T) {
	abi := confine.LandlockABI()
	if abi == 0 {
		t.Skip("this kernel has no Landlock")
	}
	got, report, _ := imprison(t)
	if report.Landlock != abi {
		t.Errorf("Landlock %d is in force, the kernel has %d", report.Landlock, abi)
	}
	for what, why := range report.Failed {
		t.Errorf("refused: %s: %s", what, why)
	}
	for _, a := range lawful {
		if o := got[a.name]; !o.Could {
			t.Errorf("it could not %s: %s", a.name, o.Why)
		}
	}
	forbidden := unlawful
	for since, more := range scoped {
		switch {
		case abi >= since:
			forbidden = append(forbidden[:len(forbidden):len(forbidden)], more...)
		case since == 10 && report.Network:
			forbidden = append(forbidden[:len(forbidden):len(forbidden)], more...)
		}
	}
	for _, a := range forbidden {
		switch o := got[a.name]; {
		case o.Could:
			t.Errorf("it could %s", a.name)
		case !o.Denied:
			t.Errorf("it could not %s, but for another reason than that it may not: %s", a.name, o.Why)
		}
	}
	vmtest.AsOtherUser(t)
}

// Two machines never have one user.
func TestTakeUser(t *testing.T) {
	if os.Getuid() != 0 {
		if _, err := confine.TakeUser(); !errors.Is(err, confine.ErrNotRoot) {
			t.Errorf("take user: %v, want %v", err, confine.ErrNotRoot)
		}
		return
	}
	seen := map[int]bool{}
	var held []*confine.User
	for range 20 {
		u, err := confine.TakeUser()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, u)
		if seen[u.ID] || u.ID < 61184 || u.ID > 65519 {
			t.Errorf("user %d is taken, or of the wrong range", u.ID)
		}
		seen[u.ID] = true
	}
	for _, u := range held {
		u.Release()
	}
	// A killed holder leaves the file of its lock, which the next one sweeps.
	stale := "/run/belljar/users/1"
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := confine.TakeUser()
	if err != nil {
		t.Fatal(err)
	}
	u.Release()
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", stale, err)
	}
	vmtest.AsOtherUser(t)
}

func TestReadStatus(t *testing.T) {
	s, err := confine.ReadStatus(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.UID != os.Geteuid() || s.GID != os.Getegid() || s.NoNewPrivs {
		t.Errorf("status of this process: %+v", s)
	}
	if (s.Capabilities>>unix.CAP_SETUID)&1 == 0 && s.UID == 0 {
		t.Log("this root may not change its user")
	}
}
