package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// boot is the result of 'belljar image boot --json'.
type boot struct {
	Start   string        `json:"start"`
	Marks   []mark        `json:"marks"`
	Kernel  string        `json:"kernel"`
	Initrd  string        `json:"initrd"`
	Cmdline string        `json:"cmdline"`
	Took    time.Duration `json:"took_ns"`
}

type mark struct {
	Name string        `json:"name"`
	At   time.Duration `json:"at_ns"`
}

// bootBelljar boots the guest once, with more flags than those.
func bootBelljar(ctx context.Context, o options, flags ...string) (*boot, error) {
	args := []string{"image", "boot", o.spec, "--guest", o.guest, "--accel", "tcg", "--json"}
	cmd := exec.CommandContext(ctx, o.belljar, append(args, flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	last := lines[len(lines)-1]
	if err != nil {
		return nil, fmt.Errorf("belljar image boot: %w: %s", err, last)
	}
	var r struct{ Result boot }
	if err := json.Unmarshal(last, &r); err != nil {
		return nil, fmt.Errorf("belljar image boot: its last line: %w", err)
	}
	return &r.Result, nil
}

// bootPlain boots the same kernel with the same initramfs and command line in QEMU with no disks and no ports, and
// waits for the first line of init, which comes before it misses any.
func bootPlain(ctx context.Context, b *boot) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // once, in some hundred boots, both its processors span for ever
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "pc-q35-6.2",
		"-cpu", "Nehalem-v1", "-smp", "2", "-m", "2048", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", b.Kernel, "-initrd", b.Initrd, "-append", b.Cmdline)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill() // it has no disk that could suffer
		_ = cmd.Wait()
	}()
	for in := bufio.NewScanner(out); in.Scan(); {
		if strings.HasPrefix(in.Text(), "belljar: init kernel ") {
			return time.Since(start), nil
		}
	}
	return 0, errors.New("plain QEMU: init has not said its line")
}

// bootDebvm runs debvm-run with its defaults, but under TCG (and with the CPU model that it has without KVM), until the
// SSH server says its first word: a login would take longer still.
func bootDebvm(ctx context.Context, o options) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	log := new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, "debvm-run", "--image", o.debvm, "--sshport", strconv.Itoa(o.port), "--",
		"-snapshot", "-machine", "accel=tcg", "-cpu", "qemu64")
	cmd.Cancel = func() error { return nil } // its group is ended as one, below
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = log, log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	var failed error // read after ended
	go func() {
		defer close(ended)
		failed = cmd.Wait()
	}()
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the shell takes its temporary files along
		<-ended
	}()
	// A new try every quarter of a second, while older ones wait: QEMU accepts each at once and tries the guest.
	answered := make(chan struct{}, 1)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-answered:
			return time.Since(start), nil
		case <-ended:
			return 0, fmt.Errorf("debvm-run ended: %w\n%s", errors.Join(failed, errEarly), log)
		case <-ctx.Done():
			return 0, errors.Join(errors.New("debvm: no SSH answer"), ctx.Err())
		case <-tick.C:
			go func() {
				if speaksSSH(ctx, o.port) {
					select {
					case answered <- struct{}{}:
					default:
					}
				}
			}()
		}
	}
}

var errEarly = errors.New("before its SSH server said anything")

func speaksSSH(ctx context.Context, port int) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	word := make([]byte, 4)
	_, err = io.ReadFull(c, word)
	return err == nil && string(word) == "SSH-"
}
