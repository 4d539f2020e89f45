package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads what the root cannot be found without, and goes on with the rest beside the work that follows: the
// channel gives its outcome. Drivers for hardware that may not be here are there only in what boots by itself; they may be
// the root's, so there nothing is left for later.
func loadModules(dir string) (late <-chan error, err error) {
	if err := load(dir, "order"); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	drivers, err := list(dir, "drivers")
	if errors.Is(err, fs.ErrNotExist) {
		go func() { done <- load(dir, "late") }()
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	done <- load(dir, "late")
	for _, name := range drivers {
		if err := insert(dir, name); err != nil {
			say(err.Error())
		}
	}
	return done, nil
}

// load loads the modules of a list, one after another. Each is needed.
func load(dir, name string) error {
	modules, err := list(dir, name)
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := insert(dir, m); err != nil {
			return err
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
		return fail("load "+name, err)
	}
	defer unix.Close(fd)
	if err := unix.FinitModule(fd, "", 0); err != nil {
		return fail("load "+name, err)
	}
	return nil
}
