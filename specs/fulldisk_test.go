package specs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// The test in this file needs a disk that is full: this test binary again, with a tmpfs of its own or under a limit on
// the size of a file.
const fillVariable = "BELLJAR_SPECS_TEST_FILL"

func TestMain(m *testing.M) {
	how, dir, _ := strings.Cut(os.Getenv(fillVariable), "@")
	if how == "" {
		os.Exit(m.Run())
	}
	if err := fillRole(how, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fillRole replaces a lock where there is no room for the new one, then makes room and replaces it.
func fillRole(how, dir string) error {
	loaded, err := Load("seabios")
	if err != nil {
		return err
	}
	lock, err := LoadLock(loaded, "")
	if err != nil {
		return err
	}
	name, old := filepath.Join(dir, "my.lock.json"), []byte("the old lock\n")
	fill, makeRoom := func() error { return nil }, func() error { return nil }
	switch how {
	case "tmpfs":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		filler := filepath.Join(dir, "filler")
		fill = func() error {
			if err := os.WriteFile(filler, make([]byte, 64<<10), 0o644); !errors.Is(err, unix.ENOSPC) {
				return fmt.Errorf("the disk is not full: %w", err)
			}
			return nil
		}
		makeRoom = func() error {
			return errors.Join(os.Remove(filler), unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"))
		}
	case "limit":
		signal.Ignore(syscall.SIGXFSZ)
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		fill = func() error {
			return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 10, Max: limit.Max})
		}
		makeRoom = func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) }
	}
	if err := errors.Join(os.WriteFile(name, old, 0o644), fill()); err != nil {
		return err
	}
	fmt.Println("ready")
	err = lock.WriteFile(name)
	fmt.Printf("%v: %v\n", fault.KindOf(err), err)
	for _, e := range fault.Chain(err) {
		fmt.Println("remedy:", e.Remedy)
	}
	now, err := os.ReadFile(name)
	fmt.Println("the old one stands:", bytes.Equal(now, old), err)
	left, err := filepath.Glob(filepath.Join(dir, ".my*"))
	fmt.Println("left:", len(left), err)
	if err := makeRoom(); err != nil {
		return err
	}
	err = lock.WriteFile(name)
	now, rerr := os.ReadFile(name)
	fmt.Println("with room:", bytes.Equal(now, lock.Marshal()), errors.Join(err, rerr))
	return nil
}

// A lock for which there is no room: the old one stands, and the user reads whose fault it is, where, and what to do.
func TestLockOnAFullDisk(t *testing.T) {
	for how, says := range map[string]string{"tmpfs": "no space left on device", "limit": "file too large"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), fillVariable+"="+how+"@"+dir)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if how == "tmpfs" {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
				if os.Getuid() != 0 {
					cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
					cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
					cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
				}
			}
			out, err := cmd.Output()
			if err != nil && how == "tmpfs" && !bytes.Contains(out, []byte("ready")) {
				t.Logf("no mount namespace here (%v: %s); the limit on a file's size fills as well", err, errs.Bytes())
				return
			}
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, errs.Bytes())
			}
			for _, s := range []string{
				"host fault: write lock: ", says, "remedy: make sure that " + dir + " can be written and its disk has room",
				"the old one stands: true <nil>", "left: 0 <nil>", "with room: true <nil>",
			} {
				if !strings.Contains(string(out), s) {
					t.Errorf("it does not say %q:\n%s", s, out)
				}
			}
		})
	}
}
