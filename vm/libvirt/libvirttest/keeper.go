package libvirttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable makes the test program a keeper; the death pipe is the first descriptor that it inherits.
const (
	variable = "LIBVIRTTEST_KEEPER"
	deathFD  = 3
)

var hooked bool

// order is what a keeper keeps.
type order struct {
	Dir      string     // the daemons' folder: a log for each goes there
	Env      []string   // their environment
	Commands [][]string // one daemon each; the last one's process id is written to standard output
	Root     bool       // become an unprivileged user
}

// Main makes this process a keeper if it was started as one, and then never returns. Each test program that starts a
// libvirtd calls it first thing in TestMain.
func Main() {
	text, ok := os.LookupEnv(variable)
	if !ok {
		hooked = true
		return
	}
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "libvirttest keeper:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve starts the daemons and waits for the death pipe to close. QEMU leaves its parents, as daemons do, but not its
// keeper: orphans fall to the nearest 'child subreaper' (prctl(2), PR_SET_CHILD_SUBREAPER).
func (o order) serve() error {
	runtime.LockOSThread() // Pdeathsig follows the thread
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	syscall.CloseOnExec(deathFD)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	var last int
	for _, argv := range o.Commands {
		pid, err := o.start(argv)
		if err != nil {
			return fmt.Errorf("start %s: %w", argv[0], err)
		}
		last = pid
	}
	go reap()
	fmt.Println(last)
	_, _ = io.Copy(io.Discard, os.NewFile(deathFD, "death")) // returns when the test is over, or dead
	for killChildren() {
	}
	return nil
}

func (o order) start(argv []string) (int, error) {
	name := filepath.Base(argv[0])
	log, err := os.Create(filepath.Join(o.Dir, name+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	attr := &os.ProcAttr{
		Dir: o.Dir, Env: o.Env, Files: []*os.File{nil, log, log},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if o.Root {
		attr.Sys.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return 0, err
	}
	return p.Pid, nil
}

// reap takes in whoever dies: libvirtd asks whether a machine's process is still there, and a dead one is until then.
func reap() {
	for {
		var status unix.WaitStatus
		if _, err := unix.Wait4(-1, &status, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // no children are left
		}
	}
}

// killChildren kills all children and reports whether there were any. Theirs become this process's own.
func killChildren() bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	found := false
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// proc_pid_stat(5): 'pid (name) state ppid …', and the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && fields[0] != "Z" {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				found = true
			}
		}
	}
	return found
}
