package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits are what a cgroup holds a program to.
type Limits struct {
	Memory int64 // bytes of RAM, and as much swap again
	CPUs   int   // whole processors' worth of time
	Tasks  int   // processes and threads
}

// Cgroup is a cgroup of one program's own.
type Cgroup struct{ Path string }

// The names that Belljar gives to cgroups: to the one that it moves itself to, and to those of programs, which end in
// Belljar's process id and a number.
const (
	selfName     = "belljar"
	programsName = "belljar-"
)

// controllers are those that the limits need.
var controllers = []string{"memory", "cpu", "pids"}

// delegation is how to get a cgroup that may be divided.
func delegation() string {
	if os.Geteuid() == 0 {
		return "systemd-run --scope -p Delegate=yes belljar …"
	}
	return "systemd-run --user --scope -p Delegate=yes belljar …"
}

// NotDelegated says why there is no cgroup to be had, and what would help.
type NotDelegated struct{ Reason, Remedy string }

func (e *NotDelegated) Error() string { return e.Reason }

// cgroupfs is how this process reaches cgroup v2 (Documentation/admin-guide/cgroup-v2.rst); tests have a made one.
type cgroupfs struct {
	self, mounts string // /proc/self/cgroup and /proc/self/mountinfo
	mkdir        func(path string, mode os.FileMode) error
	root         bool // this process may write everywhere: what is delegated is told by systemd's mark alone
}

func hostCgroups() *cgroupfs {
	return &cgroupfs{
		self: "/proc/self/cgroup", mounts: "/proc/self/mountinfo", mkdir: os.Mkdir, root: os.Geteuid() == 0,
	}
}

// NewCgroup makes a cgroup with limits below this process's own, if that is cgroup v2 and delegated to it; the error is a
// *NotDelegated if it is not. Where this process is alone in its cgroup it moves to one below first: only a cgroup
// without processes can hand controllers down ('no internal process constraint').
func NewCgroup(l Limits) (*Cgroup, error) { return hostCgroups().make(l) }

var cgroupCount atomic.Int64

func (c *cgroupfs) make(l Limits) (*Cgroup, error) {
	base, err := c.divisible()
	if err != nil {
		return nil, err
	}
	c.sweep(base)
	g := &Cgroup{Path: filepath.Join(base, fmt.Sprintf("%s%d-%d", programsName, os.Getpid(), cgroupCount.Add(1)))}
	if err := c.mkdir(g.Path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if err := g.limit(l); err != nil {
		g.Remove()
		return nil, fmt.Errorf("limit cgroup: %w", err)
	}
	return g, nil
}

// limit writes the limits. Swap is not always accounted for, and then has no file.
func (g *Cgroup) limit(l Limits) error {
	const period = 100_000 // microseconds, the kernel's default
	for _, f := range []struct{ name, value string }{
		{"memory.max", strconv.FormatInt(l.Memory, 10)},
		{"memory.swap.max", strconv.FormatInt(l.Memory, 10)},
		{"cpu.max", fmt.Sprintf("%d %d", l.CPUs*period, period)},
		{"pids.max", strconv.Itoa(l.Tasks)},
	} {
		err := put(filepath.Join(g.Path, f.name), f.value)
		if err != nil && (f.name != "memory.swap.max" || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// put writes to a file of the kernel's; unlike os.WriteFile it never makes one.
func put(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Remove deletes the cgroup. It must be empty: its program is gone and reaped.
func (g *Cgroup) Remove() {
	if g != nil {
		_ = os.Remove(g.Path)
	}
}

// divisible finds the cgroup below which others can be made, and readies it.
func (c *cgroupfs) divisible() (string, error) {
	base, err := c.own()
	if err != nil {
		return "", err
	}
	if filepath.Base(base) == selfName {
		base = filepath.Dir(base) // an earlier call moved here
	}
	if missing := lacking(base, "cgroup.controllers"); len(missing) > 0 {
		return "", &NotDelegated{
			"cgroup v2 has no " + strings.Join(missing, ", ") + " here",
			"boot the host with systemd.unified_cgroup_hierarchy=1 if it still uses cgroup v1, or have them delegated: " +
				delegation(),
		}
	}
	if !c.delegated(base) {
		return "", &NotDelegated{"the cgroup " + base + " is not delegated to Belljar", "start it as " + delegation()}
	}
	missing := lacking(base, "cgroup.subtree_control")
	if len(missing) == 0 {
		return base, nil
	}
	if err := c.moveDown(base); err != nil {
		return "", err
	}
	if err := put(filepath.Join(base, "cgroup.subtree_control"), "+"+strings.Join(missing, " +")); err != nil {
		return "", fmt.Errorf("hand controllers down: %w", err)
	}
	return base, nil
}

// lacking are the controllers that a file of the cgroup does not list.
func lacking(cgroup, file string) []string {
	text, _ := os.ReadFile(filepath.Join(cgroup, file)) // unreadable: it lists none
	has := map[string]bool{}
	for _, name := range strings.Fields(string(text)) {
		has[name] = true
	}
	var missing []string
	for _, name := range controllers {
		if !has[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// delegated says whether this process may divide the cgroup: for others than root the kernel's permissions tell
// ('Delegation containment'), for root the mark that systemd sets (systemd's docs/CGROUP_DELEGATION).
func (c *cgroupfs) delegated(cgroup string) bool {
	if c.root {
		for _, mark := range []string{"user.delegate", "trusted.delegate"} {
			value := make([]byte, 8)
			if n, err := unix.Getxattr(cgroup, mark, value); err == nil && string(value[:n]) == "1" {
				return true
			}
		}
		return false
	}
	for _, name := range []string{".", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(cgroup, name), unix.W_OK) != nil {
			return false
		}
	}
	return true
}

// moveDown empties a cgroup that only this process is in.
func (c *cgroupfs) moveDown(cgroup string) error {
	text, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return err
	}
	me := strconv.Itoa(os.Getpid())
	for _, pid := range strings.Fields(string(text)) {
		if pid != me {
			return &NotDelegated{
				"other programs are in Belljar's cgroup " + cgroup, "give it one of its own: " + delegation(),
			}
		}
	}
	below := filepath.Join(cgroup, selfName)
	if err := c.mkdir(below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return put(filepath.Join(below, "cgroup.procs"), me)
}

// own is the folder of this process's cgroup.
func (c *cgroupfs) own() (string, error) {
	none := &NotDelegated{"this host has no cgroup v2", "boot it with systemd.unified_cgroup_hierarchy=1"}
	text, err := os.ReadFile(c.self)
	if err != nil {
		return "", none
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok { // cgroups(7)
			return c.find(path, none)
		}
	}
	return "", none
}

// find turns a path in the hierarchy into one in the file system: proc_pid_mountinfo(5).
func (c *cgroupfs) find(path string, none error) (string, error) {
	text, err := os.ReadFile(c.mounts)
	if err != nil {
		return "", none
	}
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		root, point := f[3], f[4]
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")); ok {
			return filepath.Join(point, rest), nil
		}
	}
	return "", none
}

// sweep removes the cgroups of Belljars that are gone.
func (c *cgroupfs) sweep(base string) {
	all, _ := filepath.Glob(filepath.Join(base, programsName+"*"))
	for _, path := range all {
		var pid, n int
		if _, err := fmt.Sscanf(filepath.Base(path), programsName+"%d-%d", &pid, &n); err != nil {
			continue
		}
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.Remove(path) // refused as long as anything is in it
		}
	}
}
