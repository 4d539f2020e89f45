// Command transfer measures how fast bytes get into and out of an emulated guest: by its SSH, which carries control and
// logs, and by its disks, which carry the rest. All in one guest, one after the other, the same number of bytes of the
// same content, made in the guest from what the host cannot compress.
//
// It knows the wire protocol, so that the agent's own work is what is timed. It refuses to know how images are made:
// 'belljar image boot --json' says what to boot.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/belljar/belljar/vm/supervise"
)

// options are what to measure.
type options struct {
	belljar, spec, guest string
	image                string // a file with the result of 'belljar image boot --json'; empty: it is run
	mib                  int64
	sshMiB               int64
}

func main() {
	supervise.Main() // QEMU's guard is this program as well
	var o options
	flag.StringVar(&o.belljar, "belljar", "bin/belljar", "the program")
	flag.StringVar(&o.spec, "spec", "seabios", "whose guest is used")
	flag.StringVar(&o.guest, "guest", "debian-bookworm-x86_64", "which of its guests")
	flag.StringVar(&o.image, "image", "", "a file with what 'belljar image boot --json' printed; none: it is run")
	flag.Int64Var(&o.mib, "mib", 1024, "MiB to move by disk, a multiple of 32")
	flag.Int64Var(&o.sshMiB, "ssh-mib", 128, "MiB to move by SSH")
	flag.Parse()
	if o.mib <= 0 || o.mib<<20%noiseInOutput != 0 {
		fmt.Fprintf(os.Stderr, "transfer: -mib %d: want a multiple of %d\n", o.mib, noiseInOutput>>20)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "transfer:", err)
		stop()
		os.Exit(1)
	}
}

// booted is what 'belljar image boot --json' says of a guest.
type booted struct {
	Kernel  string `json:"kernel"`
	Initrd  string `json:"initrd"`
	Cmdline string `json:"cmdline"`
	Root    string `json:"root"`
}

func describe(ctx context.Context, o options) (b booted, err error) {
	var out []byte
	if o.image != "" {
		out, err = os.ReadFile(o.image)
	} else {
		cmd := exec.CommandContext(ctx, o.belljar, "image", "boot", o.spec, "--guest", o.guest, "--accel", "tcg", "--json")
		cmd.Stderr = os.Stderr
		out, err = cmd.Output()
	}
	if err != nil {
		return b, fmt.Errorf("belljar image boot: %w", err)
	}
	var r struct{ Result booted }
	for line := range lines(out) {
		if err = json.Unmarshal(line, &r); err != nil {
			return b, fmt.Errorf("belljar image boot: %w", err)
		}
	}
	return r.Result, nil
}

func run(ctx context.Context, o options) error {
	b, err := describe(ctx, o)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "belljar-transfer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, err := boot(ctx, b, o, dir)
	if err != nil {
		return err
	}
	defer g.close()
	rows, err := measure(ctx, g, o)
	table(os.Stdout, rows)
	return err
}
