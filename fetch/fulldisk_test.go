package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
)

// The test in this file needs a disk that is full: this test binary again, with a tmpfs of its own or under a limit on
// the size of a file.
const fillVariable = "BELLJAR_FETCH_TEST_FILL"

func TestMain(m *testing.M) {
	words := strings.SplitN(os.Getenv(fillVariable), " ", 3)
	if words[0] == "" {
		os.Exit(m.Run())
	}
	if err := fillRole(words[0], words[1], words[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// large is three times what there is room for.
func large() []byte {
	b := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

// fillRole fetches into a store that has no room, then makes room and fetches again.
func fillRole(how, dir, mirror string) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	makeRoom := func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) }
	switch how {
	case "tmpfs":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			return err
		}
		makeRoom = func() error { return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m") }
	case "limit":
		signal.Ignore(syscall.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: limit.Max}); err != nil {
			return err
		}
	}
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	f := New(s, Mirrors{List: []Mirror{{URL: mirror, From: "test"}}})
	it := item(large())
	it.Snapshot = ""
	fmt.Println("ready")
	err = f.Fetch(context.Background(), []Item{it}, nil)
	fmt.Printf("%v: %v\n", fault.KindOf(err), err)
	for _, e := range fault.Chain(err) {
		if e.Remedy != "" {
			fmt.Println("remedy:", e.Remedy)
		}
	}
	left, gerr := filepath.Glob(filepath.Join(dir, "store", "tmp", "*"))
	fmt.Println("stored:", s.Has(it.Digest), "left:", len(left), gerr)
	if err := makeRoom(); err != nil {
		return err
	}
	err = f.Fetch(context.Background(), []Item{it}, nil)
	left, gerr = filepath.Glob(filepath.Join(dir, "store", "partial", "*"))
	fmt.Println("with room:", errors.Join(err, s.Verify(context.Background(), it.Digest)), "partial:", len(left), gerr)
	return nil
}

// A store without room: the host's fault, at once and not after all retries; and with room the fetch goes on where it
// stopped.
func TestFetchOnAFullDisk(t *testing.T) {
	for how, says := range map[string]string{"tmpfs": "disk full: ", "limit": "file too large for "} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s := serve(t, content(large()))
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), fillVariable+"="+how+" "+dir+" "+s.URL+"/debian")
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
			for _, w := range []string{
				"host fault: ", says, filepath.Join(dir, "store"), "bytes needed", "remedy: ", "stored: false left: 0 <nil>",
				"with room: <nil> partial: 0 <nil>",
			} {
				if !strings.Contains(string(out), w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			if n := s.requests.Load(); n != 2 {
				t.Errorf("%d requests, want 2: no retry helps a full disk", n)
			}
			if last := s.ranges[len(s.ranges)-1]; !strings.HasPrefix(last, "bytes=") {
				t.Errorf("the second fetch began anew (Range %q)", last)
			}
			if testing.Verbose() {
				t.Logf("%s", out)
			}
		})
	}
}
