// Init is the first program of a guest, process 1 of its initramfs: it loads the kernel modules, finds the disks by their
// serials or the root by its partition's label, lays dm-verity over the root before anything of it is read and a writable
// layer over that, and hands over to /belljar/init (image/initramfs, pid1.sh) in it.
//
// It is one program, and no shell script, because under emulation the start of a process costs more than what it does:
// each of some fifty would take a hundredth of a second. So it is small and quick too: system calls, no fmt.
//
// It knows device-mapper's ioctls, the head of a hash tree and what Linux shows of disks in /sys. It refuses to know how
// disks and trees are made, and believes nothing that it reads of a tree: the root hash, which comes on the kernel's command
// line, covers the salt and every block, and a wrong size or algorithm gives another hash.
package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if slices.Equal(os.Args[1:], []string{behindRole}) {
		if err := stayBehind(); err != nil {
			say("left behind: " + err.Error())
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		_, _ = os.Stderr.WriteString("init: this is the first program of a Belljar guest, and no other can start it\n")
		os.Exit(2)
	}
	fatal(boot()) // which returns only if it could not
}

// say writes a line for the host, which reads the console: 'belljar: init …'.
func say(text string) {
	_, _ = os.Stdout.WriteString("belljar: init " + text + "\n") // there is nobody else to tell
}

// fatal ends the machine. The host knows the line.
func fatal(err error) {
	_, _ = os.Stdout.WriteString("belljar: FATAL " + err.Error() + "\n")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	time.Sleep(time.Hour) // a kernel whose process 1 ends panics, and says less
}

// fail is an error with what was tried. Nobody asks further than for its text.
func fail(what string, err error) error { return errors.New(what + ": " + err.Error()) }

// boot does all of it.
func boot() error {
	syscall.Umask(0o022)
	second, err := preparePipes()
	if err != nil {
		return err
	}
	if err := mountAll(kernelFiles); err != nil {
		return err
	}
	if err := greet(); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	o := parseCmdline(string(line))
	// Everything that Belljar adds to the guest lives on one tmpfs, /belljar: not in the root's upper layer, which is
	// what configuring an image is about. The upper layer itself lies there too, where the agent can read it.
	if err := mountAll([]mount{{"belljar", "/belljar", "tmpfs", 0, "mode=755,size=75%"}}); err != nil {
		return err
	}
	ready := beside(func() error { // two processors, two strands of work
		if err := load(modules, "root"); err != nil {
			return err
		}
		return moveIn()
	})
	if err := loadDisks(modules); err != nil {
		return err
	}
	later := beside(func() error {
		if err := load(modules, "ports"); err != nil {
			return err
		}
		if err := nameHost(); err != nil {
			return err
		}
		return second.start()
	})
	d := finder{sys: "/sys/block", dev: "/dev", left: patience}
	found, err := d.disks(o)
	if err != nil {
		return err
	}
	if err := <-ready; err != nil {
		return err
	}
	if err := layRoot(found, o.verity); err != nil {
		return err
	}
	if err := mountAll(overRoot); err != nil {
		return err
	}
	said := "root " + found.root
	if o.verity != "" {
		said += " (dm-verity)"
	}
	for _, step := range []func(root string) error{addAccounts, makeRunFolders} {
		if err := step("/root"); err != nil {
			return err
		}
	}
	say(said + ", inputs " + or(found.inputs, "none") + ", scratch " + or(found.scratch, "tmpfs") +
		", outputs " + or(found.outputs, "none"))
	if err := <-later; err != nil {
		return err
	}
	return switchRoot("/root", "/belljar/bin/busybox", "sh", "/belljar/init", o.mode, found.inputs, found.scratch)
}

// greet says the first line: which kernel, and how long it took.
func greet() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fail("uname", err)
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	seconds, _, _ := strings.Cut(string(up), " ")
	say("kernel " + text(name.Release[:]) + " after " + seconds + " s")
	return nil
}

// nameHost gives the guest its name and the one network device that it has.
func nameHost() error {
	if err := unix.Sethostname([]byte("belljar")); err != nil {
		return fail("host name", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("lo up", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fail("lo up", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fail("lo up", err)
	}
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
