// Boottime measures for bench/boot.sh how long a guest takes to boot, in turns with two others: QEMU alone with the same
// kernel and initramfs until its first line, and a debvm until its SSH server's first word.
//
// It knows command lines and stopwatches. It refuses to know Belljar's insides: what it says of them is what
// 'belljar image boot --json' says.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// marks are the moments of 'belljar image boot', and what comes to an end at each.
var marks = []struct{ name, text string }{
	{"running", "power-on: the emulator runs"},
	{"init", "kernel: up to init's first line"},
	{"root", "modules, disks, dm-verity, overlay"},
	{"serving", "process 1 starts sshd"},
	{"ssh", "SSH handshake, both ways"},
	{"agent", "the agent starts and says hello"},
}

// options are what to measure.
type options struct {
	belljar, spec, guest string
	debvm                string // path of its disk; empty: left out
	port                 int
	rounds               int
}

func main() {
	var o options
	flag.StringVar(&o.belljar, "belljar", "bin/belljar", "the program")
	flag.StringVar(&o.spec, "spec", "seabios", "whose guest is booted")
	flag.StringVar(&o.guest, "guest", "debian-bookworm-x86_64", "which of its guests")
	flag.StringVar(&o.debvm, "debvm", "", "the disk of a debvm; none: it is left out")
	flag.IntVar(&o.port, "port", 22022, "a free TCP port for debvm's SSH")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is booted")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "boottime:", err)
		stop()
		os.Exit(1)
	}
}

// run boots each in turn, so that what else the host does is shared by all.
func run(ctx context.Context, o options) error {
	m := measured{}
	for range 2 { // not counted: the first makes the image if there is none, the second a state to start from
		if _, err := bootBelljar(ctx, o); err != nil {
			return err
		}
	}
	for round := range o.rounds {
		calm()
		fast, err := bootBelljar(ctx, o)
		if err != nil {
			return err
		}
		if fast.Start != "saved state" {
			return fmt.Errorf("a fast start was from %s", fast.Start)
		}
		m.add("fast", fast.Took)
		calm()
		b, err := bootBelljar(ctx, o, "--cold")
		if err != nil {
			return err
		}
		m.add("belljar", b.Took)
		m.parts(b.Marks)
		calm()
		plain, err := bootPlain(ctx, b)
		if err != nil {
			return err
		}
		m.add("plain", plain)
		if o.debvm != "" {
			calm()
			debvm, err := bootDebvm(ctx, o)
			if err != nil {
				return err
			}
			m.add("debvm", debvm)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
	}
	m.print(os.Stdout)
	return nil
}

// calm waits until the host is the same for the next as for the one before. In a virtual machine, memory that a process
// has just given back is quicker to get than such as the hypervisor has taken meanwhile: 0.3 s of a boot, as measured here,
// for whoever comes first.
func calm() { time.Sleep(4 * time.Second) }

// measured are the times of all rounds, by what was measured.
type measured map[string][]time.Duration

func (m measured) add(name string, d time.Duration) { m[name] = append(m[name], d) }

// parts adds how long it took from each mark to the next.
func (m measured) parts(all []mark) {
	last := time.Duration(0)
	for _, a := range all {
		m.add("to "+a.Name, a.At-last)
		last = a.At
	}
}

func (m measured) median(name string) float64 {
	all := slices.Sorted(slices.Values(m[name]))
	if len(all) == 0 {
		return 0
	}
	return (all[(len(all)-1)/2] + all[len(all)/2]).Seconds() / 2
}
