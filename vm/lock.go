package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked says that a live process holds a run.
var errLocked = errors.New("a live process holds the lock")

// tryLock takes flock(2) on a file: the kernel releases it with the last descriptor, however the process ends.
func tryLock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return f, nil
}

// takeLock makes and takes a lock, and is not put off by another process that looks at it just now (see info).
func takeLock(path string) (f *os.File, err error) {
	for range 20 {
		if f, err = tryLock(path, os.O_CREATE); !errors.Is(err, errLocked) {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}

// holds reports whether a process holds the lock on a file: whether one of its descriptors is of that file, and says in
// its fdinfo that the lock came by it (proc(5), /proc/pid/fdinfo).
func holds(pid int, path string) (bool, error) {
	want, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return false, err
	}
	for _, fd := range fds {
		if _, err := strconv.Atoi(fd.Name()); err != nil {
			continue
		}
		got, err := os.Stat(filepath.Join(proc, "fd", fd.Name())) // of the open file, wherever it lies
		if err != nil || !os.SameFile(got, want) {
			continue
		}
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for _, line := range strings.Split(string(info), "\n") {
			if strings.HasPrefix(line, "lock:") && strings.Contains(line, "FLOCK") && strings.Contains(line, "WRITE") {
				return true, nil
			}
		}
	}
	return false, nil
}
