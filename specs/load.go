package specs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Loaded is a spec with the guests that it builds in and the specs that it needs: all that a build is told by people.
type Loaded struct {
	Spec   *Spec
	Guests map[string]*Guest  // by the guest spec's own name
	Needed map[string]*Loaded // by their names: the specs of which its stages need stages
	Path   string             // of the spec's file; "" if it is shipped

	names    []string          // of the guests, in the spec's order
	refs     map[string]string // a guest as the spec refers to it → its name
	needRefs map[string]string // a spec as needs refer to it → its name
}

// Load reads a spec, its guests and the specs that its stages need: a file by its path, which begins with /, ./ or ../ or ends in .yaml; else a shipped
// one by its name, or by the last element of its name where no other has the same.
func Load(name string) (*Loaded, error) {
	f, err := find(name)
	if err != nil {
		return nil, err
	}
	ld := &loader{loaded: map[string]*Loaded{}, files: map[string]string{}}
	return ld.load(f, nil) // of the first spec no other can have the name
}

// maxFileBytes is more than any spec or lock has; it keeps a wrong path (/dev/zero) from filling the memory.
const maxFileBytes = 64 << 20

func readFile(op, name string) ([]byte, error) {
	data, err := readText(name)
	if err != nil {
		return nil, fault.New(fault.Input, op, "%w", err)
	}
	return data, nil
}

// readText is readFile for a caller who says in words of its own what it read the file for.
func readText(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", name)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", name)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%s is too long: %s", name, Size(info.Size()))
	}
	return os.ReadFile(name)
}

// addGuest reads the guest that the spec's i-th reference means; what is wrong with the reference goes to the spec's
// report.
func (l *Loaded) addGuest(c checker, i int, ref string) error {
	file, data, err := ref+".yaml", []byte(nil), error(nil)
	switch {
	case !isPath(ref):
		if !slices.Contains(ShippedGuests(), ref) {
			c.fail(at("guests", i), "there is no shipped guest %q%s", ref, suggest(ref, ShippedGuests()))
			return nil
		}
		data, err = shipped.ReadFile(path.Join("shipped", guestsDir, file))
	default:
		file = ref
		if !filepath.IsAbs(ref) {
			file = filepath.Join(filepath.Dir(l.Path), ref)
		}
		if data, err = readText(file); err != nil {
			c.fail(at("guests", i), "%v", err)
			return nil
		}
	}
	if err != nil {
		return fault.New(fault.Unknown, "read guest spec", "%w", err)
	}
	g, err := ParseGuest(file, data)
	if err != nil {
		return err
	}
	if _, twice := l.Guests[g.Name]; twice {
		c.fail(at("guests", i), "a second guest of the name %q", g.Name)
	}
	l.Guests[g.Name], l.refs[ref] = g, g.Name
	l.names = append(l.names, g.Name)
	return nil
}

// GuestNames lists the guests in the spec's order; the first is the default.
func (l *Loaded) GuestNames() []string { return slices.Clone(l.names) }

// Guest is the guest of that name (or reference), the spec's first one for "".
func (l *Loaded) Guest(name string) (*Guest, error) {
	if name == "" {
		return l.Guests[l.names[0]], nil
	}
	if g, ok := l.Guests[name]; ok {
		return g, nil
	}
	if g, ok := l.Guests[l.refs[name]]; ok {
		return g, nil
	}
	return nil, fault.New(fault.Usage, "choose guest", "%s does not build in a guest %q", l.Spec.Name, name).
		WithRemedy("choose one of: %s", strings.Join(l.names, ", "))
}
