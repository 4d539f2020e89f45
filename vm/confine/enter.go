package confine

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Program is what Enter becomes.
type Program struct {
	Path   string   `json:"path"`   // absolute
	Args   []string `json:"args"`   // without the program's name
	Parent int      `json:"parent"` // whose end is the program's end: the process that started this one
}

// Enter confines this process and turns it into the program, and so never returns but with an error. Just before it
// does, it tells what became of the plan.
//
// Credentials, namespaces, no_new_privs and Landlock belong to a thread, and exec(2) ends all threads but the caller's.
// So one thread is confined, with plain system calls: neither setuid(2) nor Landlock has to be carried to the
// others, which on kernels before 6.15 a Landlock domain with scoped signals would not even survive.
func Enter(p Plan, prog Program, env []string, tell func(Report) error) error {
	runtime.LockOSThread() // for good
	files, err := open(p.Files)
	if err != nil {
		return err
	}
	r := Report{Failed: Failed{}}
	// In this order: joining a cgroup needs the privileges that the change of user gives up, and Landlock opens the paths,
	// of which many only the first user can reach.
	r.note("cgroup", joinCgroup(p.Cgroup))
	r.Cgroup = p.Cgroup != "" && r.Failed["cgroup"] == ""
	r.note("limits", limit(p))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	r.Landlock, err = restrict(p.Paths)
	r.note("landlock", err)
	r.note("user", become(p))
	if err := dieWith(prog.Parent); err != nil {
		return err
	}
	if err := tell(r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := passOnly(files); err != nil {
		return err
	}
	if err := syscall.Exec(prog.Path, append([]string{prog.Path}, prog.Args...), env); err != nil {
		return fmt.Errorf("exec %s: %w", prog.Path, err)
	}
	return nil
}

// note keeps a refusal.
func (r *Report) note(what string, err error) {
	if err != nil {
		r.Failed[what] = err.Error()
	}
}

// open opens the files and puts them where the program looks for them. They are closed on exec until passOnly.
func open(files []File) (int, error) {
	for i, f := range files {
		flags := os.O_RDONLY
		if f.Write {
			flags = os.O_RDWR
		}
		h, err := os.OpenFile(f.Path, flags, 0)
		if err != nil {
			return 0, err
		}
		if h, err = readableByAll(h, f); err != nil {
			return 0, fmt.Errorf("copy %s: %w", f.Path, err)
		}
		err = unix.Dup3(int(h.Fd()), FirstFile+i, unix.O_CLOEXEC)
		h.Close()
		if err != nil {
			return 0, fmt.Errorf("hand over %s: %w", f.Path, err)
		}
	}
	return len(files), nil
}

// readableByAll replaces a file by a copy in memory if not everybody may read it.
func readableByAll(h *os.File, f File) (*os.File, error) {
	if !f.Copy {
		return h, nil
	}
	info, err := h.Stat()
	if err != nil || info.Mode().Perm()&0o004 != 0 {
		return h, err
	}
	defer h.Close()
	fd, err := unix.MemfdCreate(filepath.Base(f.Path), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	copied := os.NewFile(uintptr(fd), f.Path)
	if _, err := io.Copy(copied, h); err != nil {
		copied.Close()
		return nil, err
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(copied.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		copied.Close()
		return nil, fmt.Errorf("seal: %w", err)
	}
	return copied, nil
}

// passOnly lets the program have the standard streams and the first n files, and nothing else that is open here.
func passOnly(n int) error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // needs Linux 5.11; Go opens all with O_CLOEXEC
		return fmt.Errorf("close descriptors: %w", err)
	}
	for i := range n {
		if _, err := unix.FcntlInt(uintptr(FirstFile+i), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("pass descriptor %d: %w", FirstFile+i, err)
		}
	}
	return nil
}

// joinCgroup moves this process into a cgroup (Documentation/admin-guide/cgroup-v2.rst: 0 is the writer).
func joinCgroup(folder string) error {
	if folder == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0)
}

// openFiles bounds a program's descriptors.
const openFiles = 1024

// limit sets what setrlimit(2) can: no core (it would hold the guest's memory), few descriptors, few threads.
func limit(p Plan) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: openFiles}
	if p.UID != 0 && p.Threads > 0 {
		limits[unix.RLIMIT_NPROC] = uint64(p.Threads) // counted by user: of use only for one who has nothing else
	}
	for what, n := range limits {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(what, &now); err != nil {
			return err
		}
		n = min(n, now.Max)
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}

// become changes this thread's user, which drops all its capabilities (capabilities(7)); a root that stays root drops
// them by itself, and no_new_privs keeps exec(2) from giving them back. The raw calls are for this thread alone; on the
// 64-bit hosts that Belljar runs on they take 32-bit ids.
func become(p Plan) error {
	if p.UID == 0 {
		none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		return unix.Capset(&none, &sets[0])
	}
	groups := make([]uint32, len(p.Groups)+1) // one more, so that there is an address to take
	for i, g := range p.Groups {
		groups[i] = uint32(g)
	}
	id := uintptr(p.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); e != 0 {
		return fmt.Errorf("setresgid %d: %w", id, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); e != 0 {
		return fmt.Errorf("setresuid %d: %w", id, e)
	}
	return nil
}

// dieWith asks the kernel for SIGKILL at the parent's end. A change of user has cleared that (PR_SET_PDEATHSIG in
// prctl(2)), and the parent may have ended since.
func dieWith(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the process that started this one is gone")
	}
	return nil
}
