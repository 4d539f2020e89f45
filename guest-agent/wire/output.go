package wire

import (
	"fmt"
	"slices"
	"strings"
)

// IsTree reports whether an output is a folder with all that is in it: its name ends with a slash.
func IsTree(output string) bool { return strings.HasSuffix(output, "/") }

// SortedOutputs is the order in which outputs lie on the disk: each once.
func SortedOutputs(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// CheckOutputs reports outputs that are no plain relative paths, and one that lies within another.
func CheckOutputs(names []string) error {
	var above string // the last folder
	for _, name := range SortedOutputs(names) {
		if err := CheckPath(strings.TrimSuffix(name, "/")); err != nil {
			return err
		}
		if above != "" && strings.HasPrefix(name, above) {
			return fmt.Errorf("%s is part of %s already", name, above)
		}
		if IsTree(name) {
			above = name
		}
	}
	return nil
}

// LeadsOut reports whether a symbolic link in a folder may lead out of it: name is the link's path below the folder. An
// absolute target does. A '..' that comes after a name in the target counts as one that does: what that name is, a link
// itself perhaps, is not looked at.
func LeadsOut(name, target string) bool {
	depth, named := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; named || depth < 0 {
				return true
			}
		default:
			named = true
		}
	}
	return strings.HasPrefix(target, "/")
}
