package confine

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The users for programs are from the range that systemd keeps for users that exist only while a service runs
// (systemd's docs/UIDS-GIDS, DynamicUser=): nobody owns files by them, and no passwd names them.
const (
	firstUID = 61184
	lastUID  = 65519
)

// Where users in use are locked: Belljar's own folder, and systemd's.
const (
	usersFolder   = "/run/belljar/users"
	systemdFolder = "/run/systemd/dynamic-uid"
)

// needed are the capabilities (capabilities(7)) that it takes to run a program as another user, to end it, and to read
// and delete what it leaves.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_FOWNER, "CAP_FOWNER"},
	{unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_SETGID, "CAP_SETGID"}, {unix.CAP_SETUID, "CAP_SETUID"},
}

// User is a user, and a group with the same number, that nothing else on this host has for as long as it is held.
type User struct {
	ID   int
	lock *os.File
}

// ErrNotRoot says that only root can give a program another user.
var ErrNotRoot = errors.New("only root can run a program as another user")

// TakeUser finds a free user. The error says why this host has none to give.
func TakeUser() (*User, error) {
	if err := mayChangeUser(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(usersFolder, 0o700); err != nil {
		return nil, fmt.Errorf("lock a user: %w", err)
	}
	sweepUsers()
	uids, err := mapped("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	gids, err := mapped("/proc/self/gid_map")
	if err != nil {
		return nil, err
	}
	const tries = 256
	n := lastUID - firstUID + 1
	for i, start := 0, rand.IntN(n); i < tries; i++ {
		id := firstUID + (start+i)%n
		if !uids.has(id) || !gids.has(id) || known(id) {
			continue
		}
		if u := lockUser(id, os.O_CREATE); u != nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("none of the users %d to %d is free and known to this user namespace", firstUID, lastUID)
}

// Release gives the user back.
func (u *User) Release() {
	if u != nil {
		_ = os.Remove(u.lock.Name()) // while it is locked: see lockUser
		u.lock.Close()
	}
}

// lockUser takes a user that nobody holds; nil if somebody does. Between the opening and the locking of its file the
// holder may have removed that: then the lock is on a file that nobody else would find.
func lockUser(id, flags int) *User {
	lock, err := os.OpenFile(filepath.Join(usersFolder, strconv.Itoa(id)), flags|os.O_RDWR, 0o600)
	if err != nil {
		return nil
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		mine, err := lock.Stat()
		there, err2 := os.Stat(lock.Name())
		if err == nil && err2 == nil && os.SameFile(mine, there) {
			return &User{ID: id, lock: lock}
		}
	}
	lock.Close()
	return nil
}

// sweepUsers removes the locks of Belljars that were killed.
func sweepUsers() {
	entries, _ := os.ReadDir(usersFolder) // none: nothing to sweep
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			lockUser(id, 0).Release()
		}
	}
}

// mayChangeUser says what this process lacks.
func mayChangeUser() error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	status, err := ReadStatus(os.Getpid())
	if err != nil {
		return err
	}
	var lacks []string
	for _, c := range needed {
		if status.Capabilities>>c.bit&1 == 0 {
			lacks = append(lacks, c.name)
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("this root may not: it lacks %s", strings.Join(lacks, ", "))
	}
	return nil
}

// known says that somebody else has the user: this host's passwd or group, or a running service of systemd's.
func known(id int) bool {
	name := strconv.Itoa(id)
	if _, err := os.Lstat(filepath.Join(systemdFolder, name)); err == nil {
		return true
	}
	if _, err := user.LookupId(name); err == nil {
		return true
	}
	_, err := user.LookupGroupId(name)
	return err == nil
}

// idRanges are ids from first on, n of them.
type idRanges [][2]int

// mapped reads which ids this user namespace has (user_namespaces(7)): inside, outside, count a line.
func mapped(path string) (idRanges, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all idRanges
	for in := bufio.NewScanner(f); in.Scan(); {
		var inside, outside, n int
		if _, err := fmt.Sscan(in.Text(), &inside, &outside, &n); err == nil {
			all = append(all, [2]int{inside, n})
		}
	}
	return all, nil
}

func (r idRanges) has(id int) bool {
	for _, x := range r {
		if id >= x[0] && id-x[0] < x[1] {
			return true
		}
	}
	return false
}
