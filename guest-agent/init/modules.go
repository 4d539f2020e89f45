package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// modules is the initramfs's folder of modules and of the lists in which they stand.
const modules = "/modules"

// loadDisks loads what the disks are found with. In what boots by itself there are drivers too, for hardware that may not be
// here; the root may be on any of it.
func loadDisks(dir string) error {
	if err := load(dir, "disks"); err != nil {
		return err
	}
	drivers, err := list(dir, "drivers")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range drivers {
		if err := insert(dir, name); err != nil {
			say(name + " does not load: " + err.Error())
		}
	}
	return nil
}

// beside does it beside what follows, and gives its outcome once.
func beside(do func() error) <-chan error {
	outcome := make(chan error, 1)
	go func() { outcome <- do() }()
	return outcome
}

// load loads the modules of a list, one after another. Each is needed.
func load(dir, name string) error {
	all, err := list(dir, name)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := insert(dir, m); err != nil {
			return fail("load "+m, err)
		}
	}
	return nil
}

// list reads one of the initramfs's lists: a module a line.
func list(dir, name string) ([]string, error) {
	b, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(b), func(c rune) bool { return c == '\n' }), nil
}

// insert loads a module: the name of its file and, after a blank, its parameters.
func insert(dir, module string) error {
	name, parameters, _ := strings.Cut(module, " ")
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.FinitModule(fd, parameters, 0)
}
