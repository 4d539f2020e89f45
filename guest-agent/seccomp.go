package main

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memfdCreate is the number of memfd_create(2) by the architecture that a system call came in as: a guest of 64 bits
// runs programs of 32 as well (syscalls(2), arch/x86/entry/syscalls in Linux).
var memfdCreate = []struct{ arch, number uint32 }{
	{unix.AUDIT_ARCH_X86_64, 319},
	{unix.AUDIT_ARCH_I386, 356},
}

// withoutMemfd takes memfd_create(2) from this thread and all that it starts, as a kernel without it would: a program in
// such a file can be run, and lies on a file system that fanotify does not watch (its marks are refused there).
// no_new_privs must be set. The kernel remembers which calls are allowed anyway, so they cost next to nothing (seccomp(2)).
func withoutMemfd() error {
	const (
		load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		is   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
		// struct seccomp_data (include/uapi/linux/seccomp.h)
		number, arch = 0, 4
	)
	var filter []unix.SockFilter
	for _, m := range memfdCreate {
		filter = append(filter,
			unix.SockFilter{Code: load, K: arch},
			unix.SockFilter{Code: is, K: m.arch, Jf: 3},
			unix.SockFilter{Code: load, K: number},
			unix.SockFilter{Code: is, K: m.number, Jf: 1},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		)
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	runtime.KeepAlive(filter)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
