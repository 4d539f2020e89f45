package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// meter is what all processes below the agent had taken at a moment: those that it, or a child of it, has waited for.
type meter struct {
	children unix.Rusage
	written  int64
}

func takeMeter() (m meter, err error) {
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &m.children); err != nil {
		return m, fmt.Errorf("getrusage: %w", err)
	}
	m.written = ioWritten("/proc/self/io")
	return m, nil
}

// usage is what was taken since, and the size of the largest process below the script's shell.
func (m meter) usage(ps *os.ProcessState) (u wire.Usage) {
	now, err := takeMeter()
	if err != nil {
		return u
	}
	u.User = time.Duration(now.children.Utime.Nano() - m.children.Utime.Nano())
	u.System = time.Duration(now.children.Stime.Nano() - m.children.Stime.Nano())
	u.Written = now.written - m.written
	if r, ok := ps.SysUsage().(*syscall.Rusage); ok {
		u.MaxRSS = int64(r.Maxrss) << 10 //nolint:unconvert // kilobytes (getrusage(2)), 32 bits wide on i386
	}
	return u
}

// ioWritten is how many bytes a process, and those that it has waited for, caused to be written to disks: counted when
// a page becomes dirty, so that what is still in memory is in it (proc_pid_io(5)). 0 where the kernel does not count.
func ioWritten(file string) int64 {
	for _, line := range readLines(file) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// group is a control group of version 2 (Documentation/admin-guide/cgroup-v2.rst) for a stage's processes. It bounds
// nothing: it counts memory. A nil group counts none.
type group struct{ dir *os.File }

// newGroup makes one; nil outside of a guest.
func (j *jar) newGroup() (*group, error) {
	if j.cgroup == "" {
		return nil, nil
	}
	if _, err := os.Stat(j.cgroup + "/cgroup.procs"); err != nil {
		if err := os.MkdirAll(j.cgroup, 0o700); err != nil {
			return nil, err
		}
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
		if err := unix.Mount("cgroup2", j.cgroup, "cgroup2", flags, ""); err != nil {
			return nil, fmt.Errorf("mount cgroup2: %w", err)
		}
	}
	if err := os.WriteFile(j.cgroup+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
		return nil, err
	}
	dir := j.cgroup + "/stage"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &group{f}, nil
}

func (g *group) fd() int { return int(g.dir.Fd()) }

// peak is the most memory that was in use at once, in bytes.
func (g *group) peak() int64 {
	if g == nil {
		return 0
	}
	return readNumber(filepath.Join(g.dir.Name(), "memory.peak"))
}

// remove takes the group away. Its processes have ended.
func (g *group) remove() {
	if g == nil {
		return
	}
	name := g.dir.Name()
	g.dir.Close()
	if err := os.Remove(name); err != nil {
		fmt.Fprintln(os.Stderr, "agent: remove cgroup:", err)
	}
}

func readNumber(file string) int64 {
	n, _ := strconv.ParseInt(readLines(file)[0], 10, 64)
	return n
}
