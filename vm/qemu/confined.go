package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/confine"
)

// confinementFile says in a machine's folder what confined its QEMU.
const confinementFile = "confinement.json"

// confinement is what is around one QEMU.
type confinement struct {
	plan    confine.Plan
	machine vm.Machine // as QEMU gets to see it: its files may be open descriptors
	flags   []string   // and what to tell it of them

	user   *confine.User // nil: the same as Belljar's
	noUser error         // why
	cgroup *confine.Cgroup
	noCG   error // why there is none

	mode     fs.FileMode // of the machine's folder, before it was lent to the user
	measures []vm.Measure
}

// newConfinement plans what QEMU may do, and takes a user and a cgroup for it if they are to be had.
func newConfinement(m vm.Machine, binary, dir string) (*confinement, error) {
	q, err := findParts(binary)
	if err != nil {
		return nil, err
	}
	c := &confinement{machine: m}
	var groups []int
	if groups, c.noUser = kvmGroups(m); c.noUser == nil {
		c.noUser = reachable(q.binary)
	}
	if c.noUser == nil {
		c.user, c.noUser = confine.TakeUser()
	}
	var files []confine.File
	if os.Geteuid() == 0 { // its QEMU will be less than root, and perhaps not reach what root can
		c.machine, files, c.flags = handOver(m)
	}
	c.plan = plan(m, q, dir, files)
	c.plan.Network = true
	if c.user != nil {
		c.plan.UID, c.plan.Groups = c.user.ID, groups
	}
	if c.cgroup, c.noCG = confine.NewCgroup(limits(m)); c.cgroup != nil {
		c.plan.Cgroup = c.cgroup.Path
	}
	return c, nil
}

// kvmGroups are the groups that a user needs for KVM; the error says that no group helps.
func kvmGroups(m vm.Machine) ([]int, error) {
	if m.Accel != vm.KVM {
		return nil, nil
	}
	info, err := os.Stat("/dev/kvm")
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case mode&0o006 == 0o006:
		return nil, nil
	case ok && mode&0o060 == 0o060 && st.Gid != 0:
		return []int{int(st.Gid)}, nil
	}
	return nil, errors.New("only root may open /dev/kvm")
}

// lend gives QEMU's user what it must write to: the machine's folder, in which it may make files but not touch what is
// Belljar's (the sticky bit), the logs and the sockets. No file's owner changes outside of that folder.
func (g *guest) lend() error {
	c := g.confined
	if c.user == nil {
		return nil
	}
	info, err := g.folder.Stat()
	if err != nil {
		return err
	}
	c.mode = info.Mode()
	if err := g.folder.Chown(-1, c.user.ID); err != nil {
		return err
	}
	if err := g.folder.Chmod(c.mode.Perm()&^0o077 | 0o070 | fs.ModeSticky); err != nil {
		return err
	}
	entries, err := os.ReadDir(g.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type() == fs.ModeSocket || e.Name() == vm.ConsoleLog || e.Name() == vm.DebugconLog {
			if err := g.lendFile(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// lendFile lets QEMU's user write to a file in the machine's folder, or connect to a socket there. What Belljar makes
// after QEMU has started needs it too.
func (g *guest) lendFile(name string) error {
	if g.confined.user == nil {
		return nil
	}
	return os.Lchown(filepath.Join(g.Dir, name), g.confined.user.ID, g.confined.user.ID)
}

// takeBack ends the loan, and gives up the user and the cgroup. QEMU is gone.
func (g *guest) takeBack() {
	c := g.confined
	if c == nil {
		return
	}
	c.cgroup.Remove()
	if c.user == nil {
		return
	}
	if c.mode != 0 {
		entries, _ := os.ReadDir(g.Dir) // as much as can be
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == c.user.ID {
				_ = os.Lchown(filepath.Join(g.Dir, e.Name()), os.Geteuid(), os.Getegid())
			}
		}
		_ = os.Chown(g.Dir, -1, os.Getegid())
		_ = os.Chmod(g.Dir, c.mode)
	}
	c.user.Release()
}

// verify asks the kernel what is in force around QEMU, before the machine's first instruction. A QEMU without its
// sandbox does not go on; what else is missing is noted.
func (g *guest) verify() error {
	s, err := confine.ReadStatus(g.process.PID)
	if err != nil {
		return fault.New(fault.Host, "start "+g.Name, "look whether QEMU is confined: %w", err)
	}
	if s.Seccomp != 2 || !s.NoNewPrivs {
		return fault.New(fault.Host, "start "+g.Name, "QEMU's sandbox is not in force (seccomp mode %d)", s.Seccomp).
			WithRemedy("install a QEMU that was built with seccomp, on a kernel with CONFIG_SECCOMP_FILTER")
	}
	g.confined.measures = g.confined.tell(s, g.process.Confined)
	return g.noteConfinement()
}

// noteConfinement leaves in the machine's folder what QEMU may do, and, once it runs, what of that is in force.
func (g *guest) noteConfinement() error {
	text, err := json.MarshalIndent(struct {
		Measures []vm.Measure `json:"measures,omitempty"`
		Plan     confine.Plan `json:"plan"`
	}{g.confined.measures, g.confined.plan}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(g.Dir, confinementFile), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fault.New(fault.Host, "start "+g.Name, "note the confinement: %w", err)
	}
	return nil
}

// Confinement says what is around QEMU.
func (g *guest) Confinement() []vm.Measure { return append([]vm.Measure(nil), g.confined.measures...) }

// given lists what QEMU may open, for whoever wonders why it was refused something.
func (c *confinement) given() string {
	var b strings.Builder
	for i, f := range c.plan.Files {
		fmt.Fprintf(&b, "descriptor %d: %s\n", confine.FirstFile+i, f.Path)
	}
	for _, p := range c.plan.Paths {
		fmt.Fprintf(&b, "%s: %s\n", p.Access, p.Path)
	}
	return b.String()
}

// tell puts into words what the kernel says of QEMU and what became of the plan.
func (c *confinement) tell(s confine.Status, r confine.Report) []vm.Measure {
	return []vm.Measure{
		{Name: "sandbox", Holds: true, Text: "QEMU's seccomp filter: no new programs, no new privileges"},
		c.tellUser(s, r), tellLandlock(r), tellNetwork(r), c.tellCgroup(r),
	}
}

func (c *confinement) tellUser(s confine.Status, r confine.Report) vm.Measure {
	m := vm.Measure{Name: "user"}
	switch {
	case r.Failed["user"] != "":
		m.Text = "root: " + r.Failed["user"]
		m.Remedy = "start Belljar as another user than root"
	case c.user != nil && s.UID == c.user.ID && s.GID == c.user.ID && s.Capabilities == 0:
		m.Holds, m.Text = true, fmt.Sprintf("%d, of this machine's own", s.UID)
	case s.UID != 0:
		m.Holds, m.Text = true, fmt.Sprintf("%d, the same as Belljar's", s.UID)
	default:
		m.Text = fmt.Sprintf("root, without capabilities: %v", c.noUser)
		if s.Capabilities != 0 {
			m.Text = fmt.Sprintf("root: %v", c.noUser)
		}
		m.Remedy = "start Belljar as another user than root"
	}
	return m
}

// landlockGains are what Landlock's versions brought (Documentation/userspace-api/landlock.rst).
var landlockGains = []struct {
	abi  int
	what string
}{{1, "files"}, {3, "truncation"}, {4, "TCP"}, {5, "ioctl"}, {6, "signals and abstract sockets"}, {10, "UDP"}}

func tellLandlock(r confine.Report) vm.Measure {
	if r.Landlock == 0 {
		m := vm.Measure{
			Name: "landlock", Text: "this kernel has none, or it is not switched on",
			Remedy: "a kernel from 5.13 on with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list",
		}
		if why := r.Failed["landlock"]; why != "" {
			m.Text = why
		}
		return m
	}
	text := fmt.Sprintf("version %d", r.Landlock)
	for i, g := range landlockGains {
		if r.Landlock >= g.abi {
			text += map[bool]string{true: ": ", false: ", "}[i == 0] + g.what
		}
	}
	return vm.Measure{Name: "landlock", Holds: true, Text: text}
}

func tellNetwork(r confine.Report) vm.Measure {
	if r.Network {
		return vm.Measure{Name: "network", Holds: true, Text: "an empty namespace"}
	}
	m := vm.Measure{
		Name: "network", Text: "the host's",
		Remedy: "let Belljar make namespaces: as root with CAP_SYS_ADMIN; as another user see the sysctls user.max_user_namespaces, " +
			"kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns",
	}
	switch {
	case r.Landlock >= 10:
		m.Holds, m.Text = true, "the host's, without TCP and UDP (Landlock)"
	case r.Landlock >= 4:
		m.Text = "the host's, without TCP (Landlock)"
	}
	if why := r.Failed["network"]; why != "" {
		m.Text += ": " + why
	}
	return m
}

func (c *confinement) tellCgroup(r confine.Report) vm.Measure {
	if r.Cgroup {
		l := limits(c.machine)
		return vm.Measure{Name: "cgroup", Holds: true, Text: fmt.Sprintf("at most %d MiB of memory, %d processors, %d threads",
			l.Memory>>20, l.CPUs, l.Tasks)}
	}
	m := vm.Measure{Name: "cgroup", Text: "no limits"}
	if why := r.Failed["cgroup"]; why != "" {
		m.Text += ": " + why
	} else if c.noCG != nil {
		m.Text += ": " + c.noCG.Error()
	}
	if e, ok := errors.AsType[*confine.NotDelegated](c.noCG); ok {
		m.Remedy = e.Remedy
	}
	return m
}
