package confine

import (
	"errors"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// What each Access is to Landlock. Nothing grants making devices, links, pipes or folders, or moving a file between
// folders.
const (
	readAll = ll.AccessFSReadFile | ll.AccessFSReadDir
	write   = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	folder  = write | ll.AccessFSReadDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSRemoveFile |
		ll.AccessFSResolveUnix
	// onFiles are the rights that a rule on a file, which is no folder, may have.
	onFiles = ll.AccessFSExecute | write | ll.AccessFSIoctlDev | ll.AccessFSResolveUnix
)

var rights = map[Access]landlock.AccessFSSet{
	Read:    readAll,
	Execute: readAll | ll.AccessFSExecute,
	Write:   write,
	Device:  write | ll.AccessFSIoctlDev,
	Folder:  folder,
}

// LandlockABI is the version of Landlock that this kernel has; 0 is none. Its features by version are in
// Documentation/userspace-api/landlock.rst, 'Previous limitations'.
func LandlockABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// restrict puts this thread into a Landlock domain: of files only these, of the network nothing, and (from ABI 6 on)
// neither signals nor abstract sockets to what is outside. It takes what the kernel has, up to the newest version that
// the library knows, and returns the kernel's ABI version; 0 if it has none.
func restrict(paths []Path) (int, error) {
	fd, flags, err := landlock.V11.BestEffort().EnableLoggingForSubprocesses().NewRulesetFD(rules(paths)...)
	if err != nil || fd < 0 {
		return 0, err
	}
	defer unix.Close(fd)
	if err := ll.LandlockRestrictSelf(fd, flags); err != nil {
		return 0, err
	}
	// The kernel shows nowhere that a process is in a domain: try a door that no plan opens.
	if fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(fd)
		return 0, errors.New("the kernel took the rules, and does not keep them")
	}
	return LandlockABI(), nil
}

// rules are the paths in the library's words.
func rules(paths []Path) []landlock.Rule {
	var all []landlock.Rule
	for _, p := range paths {
		info, err := os.Stat(p.Path)
		if err != nil {
			continue // not there, or not for this user
		}
		access := rights[p.Access]
		if !info.IsDir() {
			access &= onFiles
		}
		all = append(all, landlock.PathAccess(access, p.Path).IgnoreIfMissing())
	}
	return all
}
