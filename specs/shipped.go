package specs

import (
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// shipped holds the specs, guests and locks that come with the program. A folder is embedded whole, so that a lock may
// be absent.
//
//go:embed shipped
var shipped embed.FS

// guestsDir is a folder of shipped files that are no specs; profilesDir is the other.
const guestsDir = "guests"

// Shipped lists the names of the specs that come with the program, sorted: each is the path of its file, without .yaml.
func Shipped() []string {
	var names []string
	// Neither can fail: the folder is embedded.
	root, _ := fs.Sub(shipped, "shipped")
	_ = fs.WalkDir(root, ".", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || file == guestsDir || file == profilesDir {
			return fs.SkipDir
		}
		if name, ok := strings.CutSuffix(file, ".yaml"); ok {
			names = append(names, name)
		}
		return nil
	})
	return names
}

// ShippedGuests lists the names of the guests that come with the program.
func ShippedGuests() []string {
	entries, _ := shipped.ReadDir("shipped/" + guestsDir) // cannot fail: the folder is embedded
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok {
			names = append(names, name)
		}
	}
	return names
}

// FindShipped finds a shipped spec by its name, or by the last element of its name where no other has the same.
func FindShipped(name string) (string, bool) {
	found := meant(name, Shipped())
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// meant lists the specs that a name, or the end of one, can mean.
func meant(name string, all []string) []string {
	if slices.Contains(all, name) {
		return []string{name}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return path.Base(s) != name })
}

// notOne says that a name means none of the shipped specs, or several.
func notOne(name string, all []string) error {
	if found := meant(name, all); len(found) > 1 {
		return fault.New(fault.Input, "read spec", "%q is the end of more than one shipped spec's name", name).
			WithRemedy("give the whole name: %s", strings.Join(found, " or "))
	}
	return fault.New(fault.Input, "read spec", "there is no shipped spec %q%s", name, suggestSpec(name, all)).
		WithRemedy("shipped specs: %s; for a file of your own, give its path, like ./%s.yaml",
			strings.Join(all, ", "), name)
}

// suggestSpec suggests a whole name for one with a slash, and else the end of one.
func suggestSpec(name string, all []string) string {
	var known []string
	for _, s := range all {
		if strings.Contains(name, "/") {
			known = append(known, s)
		} else {
			known = append(known, path.Base(s))
		}
	}
	if nearest(name, known) == "" {
		known = all
	}
	return suggest(name, known)
}

// isPath tells a path from a shipped name.
func isPath(name string) bool {
	for _, start := range []string{"/", "./", "../"} {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return strings.HasSuffix(name, ".yaml")
}
