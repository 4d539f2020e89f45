package confine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/vm/supervise"
)

// prisonerVariable makes the test program one that is confined and tries to get out.
const prisonerVariable = "CONFINE_TEST_PRISONER"

func TestMain(m *testing.M) {
	supervise.Main()
	if order, ok := os.LookupEnv(prisonerVariable); ok {
		if err := tryAll(order); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// prison is what the prisoner knows of the world.
type prison struct {
	Own      string // its folder
	ReadOnly string // a file that it may read
	Others   string // another's folder
	TCP      string // an address on which the host listens
	UDP      string
	Abstract string // an abstract socket on which the host listens
	Victim   int    // a process of its own user
	Program  string // one that it was not given
	Handed   int    // a descriptor
}

// attempt is something that it tries; nil is that it could.
type attempt struct {
	name string
	do   func(prison) error
}

// lawful is what a confined program must be able to do.
var lawful = []attempt{
	{"read what is its to read", func(p prison) error { _, err := os.ReadFile(p.ReadOnly); return err }},
	{"make a file", func(p prison) error { return os.WriteFile(filepath.Join(p.Own, "new"), []byte("x"), 0o600) }},
	{"truncate its file", func(p prison) error { return os.Truncate(filepath.Join(p.Own, "new"), 0) }},
	{"remove its file", func(p prison) error { return os.Remove(filepath.Join(p.Own, "new")) }},
	{"read a descriptor", func(p prison) error {
		_, err := unix.Pread(p.Handed, make([]byte, 1), 0)
		return err
	}},
	{"connect to a socket in its folder", func(p prison) error { return dial("unix", filepath.Join(p.Own, "sock")) }},
	{"signal itself", func(prison) error { return syscall.Kill(os.Getpid(), 0) }},
}

// unlawful is what it must not.
var unlawful = []attempt{
	{"read a world-readable file", func(prison) error { _, err := os.ReadFile("/etc/passwd"); return err }},
	{"read /etc/shadow", func(prison) error { _, err := os.ReadFile("/etc/shadow"); return err }},
	{"list the root folder", func(prison) error { _, err := os.ReadDir("/"); return err }},
	{"list a home", func(prison) error { _, err := os.ReadDir("/root"); return err }},
	{"read another run's file", func(p prison) error { _, err := os.ReadFile(filepath.Join(p.Others, "file")); return err }},
	{"write another run's file", func(p prison) error {
		return os.WriteFile(filepath.Join(p.Others, "file"), []byte("x"), 0)
	}},
	{"make a file elsewhere", func(prison) error { return os.WriteFile("/tmp/escaped", nil, 0o600) }},
	{"write what is for reading", func(p prison) error { return os.WriteFile(p.ReadOnly, []byte("x"), 0) }},
	{"make a symbolic link", func(p prison) error { return os.Symlink("/etc/shadow", filepath.Join(p.Own, "link")) }},
	{"make a folder", func(p prison) error { return os.Mkdir(filepath.Join(p.Own, "folder"), 0o700) }},
	{"link a file of another's", func(p prison) error {
		return os.Link(filepath.Join(p.Others, "file"), filepath.Join(p.Own, "link"))
	}},
	{"run a program", func(p prison) error { return exec.Command(p.Program).Run() }},
	{"read a process's memory", func(p prison) error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.Victim))
		if err == nil {
			f.Close()
		}
		return err
	}},
	{"trace a process", func(p prison) error { return unix.PtraceAttach(p.Victim) }},
	{"become root", func(prison) error {
		err := unix.Setresuid(0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return unix.EPERM // its user namespace has no root
		}
		return err
	}},
	{"mount", func(prison) error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") }},
}

// scoped are those that only newer kernels, or an empty network namespace, prevent: by the ABI version that does.
var scoped = map[int][]attempt{
	4: {
		{"connect by TCP", func(p prison) error { return dial("tcp", p.TCP) }},
		{"listen on TCP", func(prison) error {
			// Plain TCP: Landlock knows no MPTCP, which Go listens with by itself. MPTCP is the namespace's to prevent.
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		}},
	},
	6: {
		{"signal a process", func(p prison) error { return syscall.Kill(p.Victim, 0) }},
		{"connect to an abstract socket", func(p prison) error { return dial("unix", p.Abstract) }},
	},
	10: {
		{"send by UDP", func(p prison) error {
			c, err := net.Dial("udp", p.UDP)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		}},
	},
}

func dial(network, address string) error {
	c, err := net.Dial(network, address)
	if err == nil {
		c.Close()
	}
	return err
}

// outcome is how an attempt went.
type outcome struct {
	Could  bool
	Denied bool // permission denied, or no way there: not for another reason, such as that the test is wrong
	Why    string
}

// tryAll is the prisoner's life.
func tryAll(order string) error {
	var p prison
	if err := json.Unmarshal([]byte(order), &p); err != nil {
		return err
	}
	all := append(append([]attempt{}, lawful...), unlawful...)
	for _, more := range scoped {
		all = append(all, more...)
	}
	out := map[string]outcome{}
	for _, a := range all {
		err := a.do(p)
		o := outcome{Could: err == nil}
		if err != nil {
			o.Why = err.Error()
		}
		for _, no := range []error{unix.EACCES, unix.EPERM, unix.ENETUNREACH, unix.ECONNREFUSED, unix.EXDEV} {
			o.Denied = o.Denied || errors.Is(err, no)
		}
		out[a.name] = o
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
