package main

import (
	"fmt"
	"os"
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

// memory watches how much of it programs hold. Looked at once a second, it costs nothing that can be measured; a control
// group with the kernel's memory controller was measured to cost a compiler 1 to 3 % of its time under TCG, for it counts
// every page as it is taken.
type memory struct {
	file         string // /proc/meminfo
	before, most int64  // bytes
}

func watchMemory(file string) *memory { return &memory{file: file, before: heldMemory(file)} }

func (m *memory) look() { m.most = max(m.most, heldMemory(m.file)-m.before) }

// heldMemory is what all programs hold that is no file of a disk, a tmpfs among it, in bytes (proc_meminfo(5)).
func heldMemory(file string) (n int64) {
	for _, line := range readLines(file) {
		name, value, _ := strings.Cut(line, ":")
		if name == "AnonPages" || name == "Shmem" {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			n += kib << 10
		}
	}
	return n
}
