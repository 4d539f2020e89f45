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

// startBehind starts a second init. It loads what only the scratch disk needs, which is large, while process 1 starts sshd:
// a process of its own, for threads end when process 1 turns into another program. From the pipe that is returned comes how
// it went: see passOn.
func startBehind() (outcome int, err error) {
	var loaded, left [2]int
	for _, pipe := range [][]int{loaded[:], left[:]} {
		if err := syscall.Pipe2(pipe, syscall.O_CLOEXEC); err != nil {
			return 0, fail("pipe", err)
		}
	}
	if _, err := syscall.ForkExec("/init", []string{"/init", behindRole}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, outcomeFD: uintptr(loaded[1]), leftFD: uintptr(left[0])},
	}); err != nil {
		return 0, fail("start the init behind", err)
	}
	return loaded[0], nil // all ends are closed when process 1 turns into another program
}

// passOn lets pid1.sh read the outcome from loadedFD, before it mounts the scratch disk. Nothing else opens a file
// meanwhile, or the number might be taken (dup2(2): EBUSY).
func passOn(outcome int) error {
	if err := syscall.Dup3(outcome, loadedFD, 0); err != nil {
		return fail("pass on a pipe", err)
	}
	return nil
}

// stayBehind is what the second init does: when all is loaded and process 1 has left, it deletes what is in the
// initramfs, for that is memory.
func stayBehind() error {
	outcome, left := os.NewFile(outcomeFD, "outcome"), os.NewFile(leftFD, "left")
	if err := load("/modules", "scratch"); err != nil {
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
