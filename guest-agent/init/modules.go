package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// loading is what goes on beside the search for the disks.
type loading struct {
	root <-chan error // gives the outcome for what the root is laid out with
	late <-chan error // and for the rest, which may come after it
}

// loadModules loads what the disks are found with. What the root is laid out with is loaded beside the search for them, and
// the rest beside what follows. In what boots by itself there are drivers too, for hardware that may not be here; the root
// may be on any of it, so there nothing is left for later.
func loadModules(dir string) (loading, error) {
	root, late := make(chan error, 1), make(chan error, 1)
	l := loading{root, late}
	drivers, err := list(dir, "drivers")
	if err == nil {
		for _, name := range []string{"disks", "root", "late"} {
			if err := load(dir, name); err != nil {
				return l, err
			}
		}
		for _, name := range drivers {
			if err := insert(dir, name); err != nil {
				say(name + " does not load: " + err.Error())
			}
		}
		root <- nil
		late <- nil
		return l, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	if err := load(dir, "disks"); err != nil {
		return l, err
	}
	// One after another all the same: a driver's device number depends on how many have one before it, and what a build
	// sees must not depend on which of two was quicker.
	go func() {
		root <- load(dir, "root")
		late <- load(dir, "late")
	}()
	return l, nil
}

// load loads the modules of a list, one after another. Each is needed.
func load(dir, name string) error {
	modules, err := list(dir, name)
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := insert(dir, m); err != nil {
			return fail("load "+m, err)
		}
	}
	return nil
}

// list reads one of the initramfs's lists: a file name a line.
func list(dir, name string) ([]string, error) {
	b, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b)), nil
}

func insert(dir, name string) error {
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.FinitModule(fd, "", 0)
}
