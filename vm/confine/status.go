package confine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Status is what the kernel says of a process: proc_pid_status(5).
type Status struct {
	UID          int    // effective
	GID          int    // effective
	Groups       []int  // supplementary
	Capabilities uint64 // effective, as bits
	NoNewPrivs   bool
	Seccomp      int // 0: none, 1: strict, 2: a filter
}

// ReadStatus asks the kernel of a process.
func ReadStatus(pid int) (Status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Status{}, err
	}
	return parseStatus(string(text))
}

func parseStatus(text string) (Status, error) {
	s := Status{UID: -1, GID: -1}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		n, err := strconv.Atoi(f[0])
		switch name {
		case "Uid", "Gid": // real, effective, saved, of the file system
			if len(f) < 2 {
				return s, fmt.Errorf("process status: %q: want four numbers", line)
			}
			if n, err = strconv.Atoi(f[1]); name == "Uid" {
				s.UID = n
			} else {
				s.GID = n
			}
		case "Groups":
			for _, g := range f {
				if n, err = strconv.Atoi(g); err == nil {
					s.Groups = append(s.Groups, n)
				}
			}
		case "CapEff":
			s.Capabilities, err = strconv.ParseUint(f[0], 16, 64)
		case "NoNewPrivs":
			s.NoNewPrivs = n == 1
		case "Seccomp":
			s.Seccomp = n
		default:
			continue
		}
		if err != nil {
			return s, fmt.Errorf("process status: %q: %w", line, err)
		}
	}
	if s.UID < 0 || s.GID < 0 {
		return s, fmt.Errorf("process status: no Uid or no Gid")
	}
	return s, nil
}
