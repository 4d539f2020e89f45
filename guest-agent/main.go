// The guest-agent is the program that works inside the jar: it speaks the wire protocol on a Unix socket, to which sshd
// connects the host, runs stages, hashes what they made, writes it to the output disk, and looks for leaks.
//
// It knows Linux and the layout of the guest. It refuses to know SSH, which merely carries its bytes, and what the
// stages build. It must run in a Debian that is only half configured: static, no passwd entry, no ld.so.cache, and
// not as PID 1.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const usage = `usage: agent serve SOCKET   speak with the host, on a Unix socket
       agent shell SPEC     a shell for a person, as a stage would have it
       agent wake PORT      wait on a virtio-serial port for what this guest is to become
`

func main() {
	syscall.Umask(0o022)
	j, err := thisJar()
	if err != nil {
		die(err)
	}
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		if err := serveSocket(j, os.Args[2]); err != nil {
			die(err)
		}
	case len(os.Args) == 3 && os.Args[1] == "shell":
		die(shell(j, os.Args[2])) // replaces this process unless it cannot
	case len(os.Args) == 3 && os.Args[1] == "wake":
		if err := wake(j, os.Args[2]); err != nil {
			die(err)
		}
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func die(err error) {
	fmt.Fprintln(os.Stderr, "agent:", err)
	os.Exit(1)
}

// jar is where things are in the guest.
type jar struct {
	state  string              // the agent's own folder, root's alone
	build  string              // the stages' folder
	inputs string              // where the input disk is mounted
	tmp    []string            // emptied before every stage
	disks  string              // a folder of plain files in place of disks; empty: look in /sys/block
	ready  string              // the file that says that the disks are mounted; empty: they are
	user   *syscall.Credential // who runs the stages; nil: whoever runs the agent
	power  func() error        // ends the machine

	guarded bool // the kernel does not choose the agent in a shortage of memory
}

// testJar names the folder that takes the place of the guest's root when the agent is tried on another machine.
const testJar = "BELLJAR_TEST_JAR"

// thisJar is the guest, or a folder for tests. On any other machine the agent does not start: it empties /tmp.
func thisJar() (*jar, error) {
	if dir := os.Getenv(testJar); dir != "" {
		return folderJar(dir), nil
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if filepath.Dir(exe) != "/belljar" {
		return nil, fmt.Errorf("this program works in a Belljar guest only, as /belljar/agent, not as %s", exe)
	}
	return &jar{
		state: "/belljar", build: "/build", inputs: "/inputs", tmp: []string{"/tmp", "/var/tmp", "/dev/shm"},
		ready: "/belljar/ready",
		user:  guestUser(),
		power: powerOff,
	}, nil
}

// readyTimeout is how long the disks may take to be mounted: on an idle machine it is done before anybody asks.
const readyTimeout = 50 * time.Second

// await waits for the disks. Process 1 mounts them beside the start of sshd, and powers off if it cannot.
func (j *jar) await(limit time.Duration) error {
	for deadline := time.Now().Add(limit); j.ready != ""; time.Sleep(5 * time.Millisecond) {
		switch _, err := os.Stat(j.ready); {
		case err == nil:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the guest's disks are not mounted after %s: %w", limit, err)
		}
	}
	return nil
}

// guestUser is build by number: a half-configured guest has no passwd entry to look it up in.
func guestUser() *syscall.Credential {
	return &syscall.Credential{Uid: 1000, Gid: 1000, Groups: []uint32{}}
}

// folderJar puts the whole jar below a folder and changes no user.
func folderJar(dir string) *jar {
	return &jar{
		state: dir + "/belljar", build: dir + "/build", inputs: dir + "/inputs", tmp: []string{dir + "/tmp"},
		disks: dir + "/disks",
		power: func() error { return os.WriteFile(dir+"/belljar/poweroff", nil, 0o644) },
	}
}
