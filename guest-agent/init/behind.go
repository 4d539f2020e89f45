package main

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// behindRole is the argument of the init that stays behind in the initramfs.
const behindRole = "behind"

// The descriptors that outlive the start of a program.
const (
	loadedFD  = 9 // process 1's: a pipe that gives an error's text, if there is one, and ends when all is loaded
	outcomeFD = 3 // its other end, of the init that stays behind
	leftFD    = 4 // of the same: a pipe that ends when process 1 has left
)

// behind are the ends of two pipes that the second init gets.
type behind struct{ outcome, left int }

// preparePipes makes the pipes between process 1 and the second init. It is called before anything else opens files beside
// it: loadedFD must not be taken.
func preparePipes() (behind, error) {
	var loaded, left [2]int
	for _, pipe := range [][]int{loaded[:], left[:]} {
		if err := syscall.Pipe2(pipe, syscall.O_CLOEXEC); err != nil {
			return behind{}, fail("pipe", err)
		}
	}
	if err := syscall.Dup3(loaded[0], loadedFD, 0); err != nil {
		return behind{}, fail("pass on a pipe", err)
	}
	// The other end of left closes when process 1 turns into another program.
	return behind{outcome: loaded[1], left: left[0]}, nil
}

// start starts the second init. It loads what only the scratch disk needs, which is large, while process 1 starts sshd: a
// process of its own, for threads end when process 1 turns into another program. pid1.sh hears from loadedFD how it went,
// before it mounts the scratch disk.
func (b behind) start() error {
	_, err := syscall.ForkExec("/init", []string{"/init", behindRole}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, outcomeFD: uintptr(b.outcome), leftFD: uintptr(b.left)},
	})
	if err != nil {
		return fail("start the init behind", err)
	}
	return nil
}

// stayBehind is what the second init does: when all is loaded and process 1 has left, it deletes what is in the
// initramfs, for that is memory.
func stayBehind() error {
	outcome, left := os.NewFile(outcomeFD, "outcome"), os.NewFile(leftFD, "left")
	if err := load(modules, "scratch"); err != nil {
		_, werr := outcome.WriteString(err.Error() + "\n")
		return errors.Join(err, werr)
	}
	if err := outcome.Close(); err != nil {
		return err
	}
	if n, err := left.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fail("wait for process 1", errors.Join(err, errors.New("read "+strconv.Itoa(n)+" bytes")))
	}
	return empty("/")
}
