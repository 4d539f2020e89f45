package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// The tests in this file need other processes: this test binary again, in one of the roles below.
const roleVariable = "BELLJAR_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func(dir string) error{
		"write slowly": roleWriteSlowly, "churn": roleChurn, "fill tmpfs": roleFillTmpfs, "fill limit": roleFillLimit,
	}
	name, dir, _ := strings.Cut(os.Getenv(roleVariable), "@")
	if name == "" {
		os.Exit(m.Run())
	}
	if err := roles[name](dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func role(name, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+name+"@"+dir)
	return cmd
}

// roleWriteSlowly has a Put, a Temp, a TempDir and a Partial half-way, says so, and waits to be killed.
func roleWriteSlowly(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	if _, err := s.TempFile("mine-*"); err != nil {
		return err
	}
	sub, _, err := s.TempDir("folder-*")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(sub, "f"), []byte("x"), 0o644); err != nil {
		return err
	}
	p, err := s.Partial(context.Background(), digestOf([]byte("never finished")), -1)
	if err != nil {
		return err
	}
	if _, err := p.Write([]byte("never")); err != nil {
		return err
	}
	half := func() { fmt.Println("half"); select {} }
	_, _, err = s.Put(context.Background(), io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), funcReader(half)), "", -1)
	return err
}

type funcReader func()

func (f funcReader) Read([]byte) (int, error) { f(); return 0, io.EOF }

func TestKilledWriterLeavesNoObject(t *testing.T) {
	s := open(t)
	cmd := role("write slowly", s.Dir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "half\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if _, err := Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s, "tmp"); len(got) != 3 {
		t.Fatalf("Open swept a living process's files: %v are left of 3", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := files(t, s, "objects"); len(got) > 0 {
		t.Fatalf("visible after kill -9: %v", got)
	}
	if _, err := Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(s.path("tmp")); len(left) > 0 {
		t.Errorf("not swept: %v", left)
	}
	p, err := s.Partial(t.Context(), digestOf([]byte("never finished")), -1)
	if err != nil || p.Offset() != 5 {
		t.Fatalf("partial download after kill -9: %+v, %v", p, err)
	}
	p.Discard()
}

// churnObjects are what all churning processes write, read and refer to.
func churnObjects() [][]byte {
	var all [][]byte
	for i := range 8 {
		all = append(all, bytes.Repeat([]byte{byte('a' + i)}, 10000+i))
	}
	return all
}

func roleChurn(dir string) error {
	objects := churnObjects()
	for range 30 {
		s, err := Open(dir)
		if err != nil {
			return err
		}
		b := objects[rand.IntN(len(objects))]
		d := digestOf(b)
		if rand.IntN(2) == 0 {
			_, _, err = s.Put(context.Background(), bytes.NewReader(b), d, int64(len(b)))
		} else {
			err = churnPartial(s, d, b)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		got, err := s.ReadAll(d)
		if err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("read: %d bytes, %w", len(got), err)
		}
		if err := s.Bind("stages", "shared", map[string]Digest{"d": d}); err != nil {
			return err
		}
		var ref map[string]Digest
		if ok, err := s.Lookup("stages", "shared", &ref); !ok || err != nil || !s.Has(ref["d"]) {
			return fmt.Errorf("look up: %v %v %w", ok, ref, err)
		}
	}
	return nil
}

func churnPartial(s *Store, d Digest, b []byte) error {
	p, err := s.Partial(context.Background(), d, int64(len(b)))
	if err != nil {
		return err
	}
	defer p.Close()
	if _, err := p.Write(b[p.Offset():]); err != nil {
		return err
	}
	return p.Commit(context.Background())
}

func TestProcessesShareAStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store") // they make it, too
	var cmds []*exec.Cmd
	for range 3 {
		cmd := role("churn", dir)
		cmd.Stderr = new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, cmd.Stderr)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Check(t.Context(), nil)
	if err != nil || len(c.Damaged) > 0 || c.Objects == 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if left := append(files(t, s, "tmp"), files(t, s, "partial")...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// roleFillTmpfs mounts a tmpfs of 1 MiB in a mount namespace of its own (no root needed) and fills it.
func roleFillTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("cannot mount:", err)
		return nil
	}
	return fill(dir, 4<<20)
}

// roleFillLimit has the kernel refuse files above 256 KiB.
func roleFillLimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 256 << 10, Max: 256 << 10}); err != nil {
		return err
	}
	return fill(dir, 4<<20)
}

// fill puts too much and prints what the store says and leaves.
func fill(dir string, size int64) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	_, _, err = s.Put(context.Background(), io.LimitReader(zeros{}, size), "", size)
	fmt.Println(fault.KindOf(err), err)
	left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*"))
	fmt.Println("left:", len(left))
	if _, err := s.PutBytes([]byte("small")); err != nil {
		return fmt.Errorf("a small object after the large one: %w", err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDiskFull(t *testing.T) {
	run := func(t *testing.T, cmd *exec.Cmd) string {
		t.Helper()
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			if pe, ok := errors.AsType[*os.PathError](err); ok {
				t.Skipf("this kernel lets no user make a mount namespace: %v", pe)
			}
			t.Fatalf("%v: %s", err, errs.Bytes())
		}
		if strings.HasPrefix(string(out), "cannot mount") {
			t.Skipf("no tmpfs in a user's mount namespace here: %s", out)
		}
		return string(out)
	}
	t.Run("file system full", func(t *testing.T) {
		cmd := role("fill tmpfs", t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		expectLines(t, run(t, cmd), "host fault", "disk full", "bytes free, 4194304 bytes needed", "left: 0")
	})
	t.Run("file size limit", func(t *testing.T) {
		expectLines(t, run(t, role("fill limit", t.TempDir())), "host fault", "file too large", "4194304 bytes needed", "left: 0")
	})
	t.Run("classified", func(t *testing.T) {
		for errno, says := range map[error]string{
			unix.ENOSPC: "disk full", unix.EDQUOT: "disk full", unix.EROFS: "read-only", unix.EACCES: "may not write",
		} {
			wantFault(t, hostFault("write", t.TempDir(), 10, &os.PathError{Op: "write", Path: "x", Err: errno}), fault.Host, says)
		}
	})
}

func expectLines(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("output lacks %q:\n%s", p, out)
		}
	}
}
