package main

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/pipeline"
)

// newTerminal makes a terminal (pts(4)) and returns both of its ends.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// A shell hears of its terminal's size, and of each new one.
func TestShellTerminalFollowsItsSize(t *testing.T) {
	master, slave := newTerminal(t)
	resize := func(width, height uint16) {
		t.Helper()
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
			t.Fatal(err)
		}
	}
	resize(100, 30)
	s := newScreen(streams{in: slave, out: slave, err: slave, getenv: func(string) string { return "" }})
	tty := s.takeTerminal(slave, "xterm")
	defer tty.restore()
	if got := tty.io(); got.Term != "xterm" || got.Size != (pipeline.ShellSize{Width: 100, Height: 30}) {
		t.Fatalf("at first: %+v", got)
	}
	for _, want := range []pipeline.ShellSize{{Width: 120, Height: 40}, {Width: 60, Height: 20}} {
		resize(uint16(want.Width), uint16(want.Height))
		// The terminal is not this test's controlling one, for which the kernel would do it.
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-tty.io().Resized:
			if got != want {
				t.Errorf("resized to %v, want %v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing heard of %v", want)
		}
	}
}
