// Package fulldisk knows how a test gets a disk that is full: it runs the test again in a process of its own, once over
// a small tmpfs in a mount namespace and once under a limit on the size of a file (RLIMIT_FSIZE), as both bind a whole
// process.
//
// It refuses to know what is written there and what a user reads when it does not fit: it imports nothing of the house,
// and only tests import it.
package fulldisk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// How is what makes a write fail.
type How string

// Tmpfs has no room (ENOSPC); Limit lets no file grow (EFBIG), and needs no privilege.
const (
	Tmpfs How = "tmpfs"
	Limit How = "limit"
)

const (
	variable = "BELLJAR_TEST_FULL_DISK" // the disk's folder; set in the process that has it
	refused  = "no tmpfs of its own"
	roomy    = 64 << 20
)

// Disk is an empty folder with room enough until Leave. A Limit binds every file that the process writes, wherever.
type Disk struct {
	Dir string
	How How

	t     *testing.T
	limit unix.Rlimit // the process's own
}

// Each runs test as two subtests, one for each How, each in its own process.
func Each(t *testing.T, test func(t *testing.T, d *Disk)) {
	t.Helper()
	for _, how := range []How{Tmpfs, Limit} {
		t.Run(string(how), func(t *testing.T) {
			if dir := os.Getenv(variable); dir != "" {
				test(t, mount(t, dir, how))
				return
			}
			again(t, how)
		})
	}
}

// again runs this one subtest in a new process and passes its verdict on.
func again(t *testing.T, how How) {
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run", pattern)
	cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
	if how == Tmpfs {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
	}
	out, err := cmd.CombinedOutput()
	_, ran := errors.AsType[*exec.ExitError](err)
	switch {
	case how == Tmpfs && err != nil && (!ran || strings.Contains(string(out), refused)):
		t.Logf("no mount namespace here (%v: %s); the limit on a file's size fills as well", err, out)
	case err != nil, !strings.Contains(string(out), "--- PASS: "+t.Name()+" "): // a test that did not run has not passed
		t.Errorf("%v\n%s", err, out)
	case testing.Verbose():
		t.Logf("%s", out)
	}
}

func mount(t *testing.T, dir string, how How) *Disk {
	d := &Disk{Dir: dir, How: how, t: t}
	d.must(unix.Getrlimit(unix.RLIMIT_FSIZE, &d.limit))
	signal.Ignore(syscall.SIGXFSZ) // a write past the limit shall return an error
	if how == Tmpfs {
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", roomy))
		}
		if err != nil {
			t.Fatalf("%s: %v", refused, err)
		}
	}
	return d
}

// Leave takes all room but n bytes (of a tmpfs: rounded up to pages).
func (d *Disk) Leave(n uint64) {
	d.t.Helper()
	var s unix.Statfs_t
	d.must(unix.Statfs(d.Dir, &s))
	d.resize((s.Blocks-s.Bfree)*uint64(s.Bsize)+n, n)
}

// MakeRoom gives back what Leave took.
func (d *Disk) MakeRoom() {
	d.t.Helper()
	d.resize(roomy, d.limit.Cur)
}

func (d *Disk) resize(tmpfs, limit uint64) {
	d.t.Helper()
	if d.How == Limit {
		d.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: d.limit.Max}))
		return
	}
	d.must(unix.Mount("tmpfs", d.Dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", tmpfs)))
}

func (d *Disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}
