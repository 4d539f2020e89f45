package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// recorder notes every program that the kernel opens in order to run it, wherever it lies: fanotify(7).
//
// Where a stage can write, the kernel asks before it goes on (FAN_OPEN_EXEC_PERM): the file is hashed as it will run,
// no two questions become one, and none is lost. The guest's root cannot change under a stage, so of the root the kernel
// just tells afterwards (FAN_OPEN_EXEC), which costs the build a fraction of it; that queue is read every few seconds.
// It has no limit but the guest's memory.
//
// The agent itself must not start a program from where the kernel asks: a Go process that waits for such a program to
// begin cannot collect garbage, and the answer that it waits for may need just that.
type recorder struct {
	ledger *ledger
	asked  int           // the group whose questions must be answered
	told   int           // the group that tells
	every  time.Duration // how often what was told is read
	stop   *os.File
	ended  chan struct{}
	failed error // why it could not go on; read after ended
}

// tellEvery is how often what was told is read. To wake up the agent is what costs most: under TCG a look every quarter
// of a second was measured to cost ten times as much as all that there was to read. A guest that starts a thousand
// programs a second has the kernel keep a megabyte for so long.
const tellEvery = 5 * time.Second

// newRecorder starts to record. What the stage could run unseen is closed to it first.
func newRecorder(j *jar, layers []layer) (*recorder, error) {
	if err := j.closeHoles(); err != nil {
		return nil, err
	}
	mounts, err := runnable("/proc/self/mountinfo", j.state)
	if err != nil {
		return nil, err
	}
	return startRecorder(layers, mounts, tellEvery)
}

// recorded runs a stage's process, and records which programs that runs if the stage asks for it.
func (s *stager) recorded(st *wire.Stage, p *process, run func() (*wire.Result, error)) (*wire.Result, error) {
	if !st.Record {
		return run()
	}
	if st.Root || s.jar.user == nil {
		return nil, fmt.Errorf("stage %s: what root runs is not recorded", st.Name)
	}
	r, err := newRecorder(s.jar, s.layers(st))
	if err != nil {
		return nil, fmt.Errorf("record programs: %w", err)
	}
	p.recorded = true
	res, err := run()
	programs, failed := r.finish()
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	res.Programs = programs
	return res, nil
}

// closeHoles closes the ways on which a program could run that no mark below sees: Belljar's own folder, whose programs
// process 1 runs all the time; a file system that is mounted in a user namespace (user_namespaces(7)). Files without a
// name are for the seccomp filter, see withoutMemfd. /var/tmp, the one place of the root where everybody can write,
// becomes a file system of its own, as /tmp is.
func (j *jar) closeHoles() error {
	if err := os.Chmod(j.state, 0o700); err != nil {
		return err
	}
	const limit = "/proc/sys/user/max_user_namespaces"
	if err := os.WriteFile(limit, []byte("0\n"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var root, own unix.Stat_t
	if err := errors.Join(unix.Stat("/", &root), unix.Stat("/var/tmp", &own)); err != nil {
		return err
	}
	if root.Dev != own.Dev {
		return nil
	}
	return unix.Mount("tmpfs", "/var/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=75%")
}

// mounted is a mount whose programs a stage can run.
type mounted struct {
	at    string
	fixed bool // the stage cannot write there
}

// runnable lists the mounts from which a stage can run programs (proc_pid_mountinfo(5)), the root first.
func runnable(file, state string) ([]mounted, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []mounted
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			return nil, fmt.Errorf("%s: %q: want at least 10 fields", file, line)
		}
		at, options, super := unescape(f[4]), ","+f[5]+",", ","+f[len(f)-1]+","
		if strings.Contains(options, ",noexec,") || f[len(f)-3] == "devpts" || at == state || strings.HasPrefix(at, state+"/") {
			continue
		}
		all = append(all, mounted{at, at == "/" || strings.Contains(super, ",ro,")})
	}
	return all, nil
}

// unescape undoes what mountinfo does to a path with spaces, tabs, line ends and backslashes in it.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func startRecorder(layers []layer, mounts []mounted, every time.Duration) (_ *recorder, err error) {
	r := &recorder{ledger: newLedger(layers), asked: -1, told: -1, every: every, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	const flags = unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS
	const open = unix.O_RDONLY | unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NOATIME
	if r.asked, err = unix.FanotifyInit(unix.FAN_CLASS_CONTENT|flags, open); err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	if r.told, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|flags, open); err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	for _, m := range mounts {
		id, err := mountOf(unix.AT_FDCWD, m.at)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.at, err)
		}
		r.ledger.mounts[id] = true
	}
	wake, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r.stop = stop
	go func() {
		defer close(r.ended)
		defer wake.Close()
		r.failed = r.work(int(wake.Fd()))
	}()
	// Only now, for somebody has to answer: what the agent itself starts is asked about as well.
	for _, m := range mounts {
		group, mask := r.asked, uint64(unix.FAN_OPEN_EXEC_PERM)
		if m.fixed {
			group, mask = r.told, unix.FAN_OPEN_EXEC
		}
		if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, mask, unix.AT_FDCWD, m.at); err != nil {
			stop.Close()
			<-r.ended
			return nil, fmt.Errorf("fanotify: mark %s: %w", m.at, err)
		}
	}
	return r, nil
}

// close gives up both groups. What the kernel still asks is thereby allowed.
func (r *recorder) close() {
	for _, fd := range []int{r.asked, r.told} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// finish ends the recording and gives what was recorded: the stage's processes have all ended before.
func (r *recorder) finish() (*wire.Programs, error) {
	r.stop.Close()
	<-r.ended
	r.close()
	if r.failed != nil {
		return nil, fmt.Errorf("record programs: %w", r.failed)
	}
	return r.ledger.programs(), nil
}

// work reads both groups until wake's other end is closed.
func (r *recorder) work(wake int) error {
	buf := make([]byte, 4096)
	next := time.Now().Add(r.every)
	fds := []unix.PollFd{{Fd: int32(r.asked), Events: unix.POLLIN}, {Fd: int32(wake)}}
	for {
		n, err := unix.Poll(fds, int(max(time.Until(next), 0)/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 && fds[0].Revents != 0 {
			if err := r.drain(r.asked, buf); err != nil {
				return err
			}
		}
		over := n > 0 && fds[1].Revents != 0
		if over || !time.Now().Before(next) {
			if err := r.drain(r.told, buf); err != nil {
				return err
			}
			next = time.Now().Add(r.every)
		}
		if over {
			return r.drain(r.asked, buf)
		}
	}
}

// drain reads a group until it has no more to say.
func (r *recorder) drain(group int, buf []byte) error {
	for {
		n, err := unix.Read(group, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EBADF), errors.Is(err, unix.EFAULT), errors.Is(err, unix.EINVAL):
			return err
		case err != nil: // of opening the file for us, fanotify(7): that event is gone
			r.ledger.lost++
			continue
		}
		if err := r.events(group, buf[:n]); err != nil {
			return err
		}
	}
}

// eventSize is the size of struct fanotify_event_metadata (include/uapi/linux/fanotify.h): length, version, reserved
// byte, length of this part, mask, descriptor, process.
const eventSize = 24

func (r *recorder) events(group int, buf []byte) error {
	for len(buf) >= eventSize {
		size, version := binary.NativeEndian.Uint32(buf), buf[4]
		if version != unix.FANOTIFY_METADATA_VERSION || size < eventSize || int(size) > len(buf) {
			return fmt.Errorf("fanotify: event of version %d and %d bytes, want version %d and %d bytes at least",
				version, size, unix.FANOTIFY_METADATA_VERSION, eventSize)
		}
		mask, fd := binary.NativeEndian.Uint64(buf[8:]), int32(binary.NativeEndian.Uint32(buf[16:]))
		if fd < 0 || mask&unix.FAN_Q_OVERFLOW != 0 { // the kernel had no memory for more
			r.ledger.lost++
		} else {
			p := r.ledger.note(int(fd))
			if group == r.told && p.From == wire.FromRoot && p.Runs == 1 && isLinker(p.Path) {
				r.ignore(int(fd))
			}
		}
		if group == r.asked && fd >= 0 {
			answer := binary.NativeEndian.AppendUint32(nil, uint32(fd))
			answer = binary.NativeEndian.AppendUint32(answer, unix.FAN_ALLOW)
			if _, err := unix.Write(group, answer); err != nil && !errors.Is(err, unix.ENOENT) { // killed meanwhile
				return fmt.Errorf("fanotify: answer: %w", err)
			}
		}
		if fd >= 0 {
			unix.Close(int(fd))
		}
		buf = buf[size:]
	}
	return nil
}

// isLinker reports whether a program is a dynamic linker: the one of glibc or of musl.
func isLinker(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-musl-")
}

// ignore has no more told of the root's dynamic linker, after its first run: it comes along with every dynamic program,
// and to be told so costs as much as to be told of the program.
func (r *recorder) ignore(fd int) {
	const flags = unix.FAN_MARK_ADD | unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORED_SURV_MODIFY
	_ = unix.FanotifyMark(r.told, flags, unix.FAN_OPEN_EXEC, fd, "") // otherwise it is told of and counted
}
