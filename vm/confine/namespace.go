package confine

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Isolate has a process started in a network namespace with nothing in it but a loopback that is down, and an IPC
// namespace. Others than root may make them only with a user namespace (user_namespaces(7)) in which they are who they
// were; the process's exec takes its capabilities there. A host may forbid it: then the process does not start.
func Isolate(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= unix.CLONE_NEWNET | unix.CLONE_NEWIPC
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
}
