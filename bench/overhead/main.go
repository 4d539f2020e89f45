// Command overhead measures for bench/overhead.sh what it costs a build that the guest-agent runs it and records which
// programs it ran. The reference is the same script in the same guest (kernel, initramfs, root, machine), typed in at a
// shell on the serial console of a plain QEMU. Three variants run in turns:
//
//	console    by hand
//	agent      by the agent, which records nothing
//	recorded   by the agent as it is
//
// The script says when each part of its work begins and ends; the figures are what QEMU used between the two, and the
// time that passed. On a busy host the processor time is the one to trust, and on one whose processors are not its own neither
// is. For those there are two ways: -count has a plugin of QEMU count the instructions that the guest runs, which nothing
// beside it can change; -pairs runs the reference and the agent at the same time, each on one processor, so that what
// befalls the host befalls both.
//
// It knows command lines, consoles and stopwatches. It refuses to know Belljar's insides, but for the one constant with
// which the variant 'agent' is built, and the format of a scratch disk.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	belljar string // the program
	guest   string
	rounds  int
	execs   int // small processes in a round's first part
	count   bool
	pairs   bool
}

func main() {
	var o options
	flag.StringVar(&o.belljar, "belljar", "bin/belljar", "the program")
	flag.StringVar(&o.guest, "guest", "debian-bookworm-x86_64", "whose guest")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each variant runs")
	flag.IntVar(&o.execs, "execs", 2000, "how many small processes a round starts")
	flag.BoolVar(&o.count, "count", false, "count instructions in place of time")
	flag.BoolVar(&o.pairs, "pairs", false, "run two at the same time, each on a processor of the host's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/overhead:", err)
		stop()
		os.Exit(1)
	}
}

// sample is what each part of the work took.
type sample map[string]used

type used struct {
	cpu, sys, wall float64 // seconds; sys, in the host's kernel, is a part of cpu
	insns          float64 // instructions, if they are counted
}

func (u used) minus(v used) used {
	return used{u.cpu - v.cpu, u.sys - v.sys, u.wall - v.wall, u.insns - v.insns}
}

// now is what a QEMU has used so far, by its folder in /proc.
func now(proc string) used {
	user, sys := processorTime(proc)
	return used{user + sys, sys, float64(time.Now().UnixMilli()) / 1000, instructions(proc)}
}

// marks are made by the script, one a line.
const markPrefix = "overhead: "

// watch makes a sample of marks as they come; now is what QEMU has used so far.
type watch struct {
	now   func() used
	began map[string]used
	all   sample
	over  bool
}

func newWatch(now func() used) *watch {
	return &watch{now: now, began: map[string]used{}, all: sample{}}
}

func (w *watch) line(text string) {
	_, mark, ok := strings.Cut(text, markPrefix)
	f := strings.Fields(mark)
	if !ok || len(f) == 0 {
		return
	}
	at := w.now()
	switch f[0] {
	case "begin":
		w.began[f[1]] = at
	case "end":
		w.all[f[1]] = at.minus(w.began[f[1]])
	case "over":
		w.over = true
	}
}

var parts = []struct{ name, what string }{
	{"many", "small processes, one after another (/bin/true from a shell's loop)"},
	{"make", "a part of SeaBIOS's make -j2 (gcc, as, python3)"},
}

// script is what all variants run, as the user build in /build/work. What it works on is copied before the clock starts.
func script(execs int) string {
	return fmt.Sprintf(`cp -r "$SOURCES/seabios" rom
cd rom
printf '%%s\n' CONFIG_QEMU=y CONFIG_ROM_SIZE=256 >.config
make PYTHON='python3 -B' EXTRAVERSION=-belljar olddefconfig >log 2>&1
i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i + 1)); done
sleep 2
echo "overhead: begin many"
i=0; while [ $i -lt %d ]; do /bin/true; i=$((i + 1)); done
echo "overhead: end many"
echo "overhead: begin make"
make -j2 PYTHON='python3 -B' EXTRAVERSION=-belljar out/ccode16.o >log 2>&1
echo "overhead: end make"
echo "overhead: over"
echo done >"$OUT/done"
`, execs)
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "belljar-overhead-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // QEMU may run as another user
		return err
	}
	if o.belljar, err = filepath.Abs(o.belljar); err != nil {
		return err
	}
	b, err := prepare(ctx, o, dir)
	if err != nil {
		return err
	}
	if o.pairs {
		return b.inPairs(ctx)
	}
	return b.inTurns(ctx)
}

// variant is a way to run the script; cpu is the host's processor that it may use, empty for all.
type variant struct {
	name string
	run  func(ctx context.Context, cpu string) (sample, error)
}

func (b *bench) variants() (console, agent, recorded variant) {
	return variant{"console", b.console},
		variant{"agent", func(ctx context.Context, cpu string) (sample, error) { return b.build(ctx, b.silent, cpu) }},
		variant{"recorded", func(ctx context.Context, cpu string) (sample, error) { return b.build(ctx, b.belljar, cpu) }}
}

// inTurns runs the variants one after another, each on all processors.
func (b *bench) inTurns(ctx context.Context) error {
	console, agent, recorded := b.variants()
	variants := []variant{console, agent, recorded}
	all := map[string][]sample{}
	for round := range b.rounds {
		order := slices.Clone(variants)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, v := range order {
			s, err := v.run(ctx, "")
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			tell(round, v.name, s)
			all[v.name] = append(all[v.name], s)
		}
	}
	printTable(os.Stdout, all, b.count)
	return nil
}

func tell(round int, name string, s sample) {
	for _, p := range parts {
		fmt.Fprintf(os.Stderr, "round %d  %-9s %s: cpu %6.2f s (%.2f s of it the kernel's), wall %6.2f s, %.0f million instructions\n",
			round+1, name, p.name, s[p.name].cpu, s[p.name].sys, s[p.name].wall, s[p.name].insns/1e6)
	}
}
