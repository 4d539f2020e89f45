// Command tcg measures what settings of QEMU and of the guest's kernel do for an emulated guest. It knows the settings and
// how to time a build under each; which of them belljar keeps stands in docs/performance.md.
//
//	go run ./bench/tcg -rounds 5 thread-single tb-64 k-mitigations
//
// Each round builds a small spec once as belljar is and once with each variant, in turns and without the stage's cache:
// a boot until the agent answers, then a C file compiled a few times. Variants are made by a script that stands in QEMU's
// place and changes its arguments, so that belljar itself is what is measured. The table has the medians, and for each
// figure the median of the ratios to the same round's run without a change. On a busy host the processor time of QEMU
// (user and system) is the one to trust.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each variant runs")
	bin := flag.String("belljar", "bin/belljar", "the program")
	list := flag.Bool("list", false, "list the variants")
	flag.Parse()
	if *list {
		for _, v := range variants {
			fmt.Printf("%-22s %s\n", v.name, v.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *bin, *rounds, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/tcg:", err)
		stop()
		os.Exit(1)
	}
}

const asIs = "as-is"

// bench runs all rounds and prints the table.
func bench(ctx context.Context, bin string, rounds int, names []string) error {
	chosen := append([]string{asIs}, names...)
	dir, err := os.MkdirTemp("", "belljar-tcg-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// QEMU may run as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	spec, err := writeSpec(ctx, dir, bin)
	if err != nil {
		return err
	}
	for _, name := range chosen {
		if err := install(dir, name); err != nil {
			return err
		}
	}
	all := map[string][]sample{}
	for round := range rounds {
		order := slices.Clone(chosen)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			s, err := measure(ctx, bin, spec, filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d  %-22s %s\n", round+1, name, s)
			all[name] = append(all[name], s)
		}
	}
	table(os.Stdout, chosen, all)
	return nil
}

// sample is one run: seconds.
type sample struct{ bootWall, bootCPU, workWall, workCPU float64 }

func (s sample) String() string {
	return fmt.Sprintf("boot %5.2f s (cpu %5.2f)  work %5.2f s (cpu %5.2f)", s.bootWall, s.bootCPU, s.workWall, s.workCPU)
}

var figures = []func(sample) float64{
	func(s sample) float64 { return s.bootWall },
	func(s sample) float64 { return s.bootCPU },
	func(s sample) float64 { return s.workWall },
	func(s sample) float64 { return s.workCPU },
}

func table(w io.Writer, names []string, all map[string][]sample) {
	fmt.Fprintf(w, "%-22s %22s %22s %22s %22s\n", "", "boot, wall", "boot, QEMU's cpu", "work, wall", "work, QEMU's cpu")
	for _, name := range names {
		fmt.Fprintf(w, "%-22s", name)
		for _, figure := range figures {
			var values, ratios []float64
			for i, s := range all[name] {
				values = append(values, figure(s))
				ratios = append(ratios, figure(s)/figure(all[asIs][i]))
			}
			fmt.Fprintf(w, " %6.2f min %6.2f x%5.2f", median(values), slices.Min(values), median(ratios))
		}
		fmt.Fprintln(w)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// measure builds the spec once with the program in place of QEMU that lies in dir.
func measure(ctx context.Context, bin, spec, dir string) (s sample, err error) {
	cmd := exec.CommandContext(ctx, bin, "--json", "build", spec, "--accel", "tcg", "--no-cache", "--out", filepath.Join(dir, "out"))
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := cmd.Start(); err != nil {
		return s, err
	}
	used, stop := watch(dir)
	defer stop()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var last string
	for lines.Scan() {
		var e struct {
			Kind, Phase string
			Took        time.Duration `json:"took_ns"`
		}
		last = lines.Text()
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Kind != "end" {
			continue
		}
		switch e.Phase {
		case "boot":
			s.bootWall, s.bootCPU = e.Took.Seconds(), used()
		case "stage":
			s.workWall, s.workCPU = e.Took.Seconds(), used()-s.bootCPU
		}
	}
	if err := cmd.Wait(); err != nil {
		return s, fmt.Errorf("%w\n%s\n%s", err, last, stderr.String())
	}
	if s.bootCPU <= 0 || s.workCPU <= 0 {
		return s, errors.New("no figures: QEMU was not seen")
	}
	return s, nil
}

// watch follows the guest's QEMU: used is what it has used so far, or had when it ended.
func watch(dir string) (used func() float64, stop func()) {
	var mu sync.Mutex
	var last float64
	done := make(chan struct{})
	look := func() float64 {
		now := processorTime(dir)
		mu.Lock()
		defer mu.Unlock()
		last = max(last, now)
		return last
	}
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
				look()
			}
		}
	}()
	return look, func() { close(done) }
}

// processorTime is what the guest's QEMU has used so far (proc_pid_stat(5): utime and stime, in ticks of 1/100 s). It is
// found by the name that its stand-in gave the machine.
func processorTime(dir string) float64 {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		cmdline, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(cmdline), "\x00-name\x00"+mark(dir)+"\x00") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		utime, _ := strconv.ParseFloat(f[11], 64)
		stime, _ := strconv.ParseFloat(f[12], 64)
		return (utime + stime) / 100
	}
	return 0
}

// mark names the machines of one variant of one bench.
func mark(dir string) string { return filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir) }

// install lays a program into the folder of a variant that stands in QEMU's place.
func install(dir, name string) error {
	v, err := find(name)
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, name)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	const qemu = "qemu-system-x86_64"
	real, err := exec.LookPath(qemu)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, qemu), []byte(v.script(real, mark(folder))), 0o755)
}

// writeSpec writes the spec that is built, and locks it. It takes the packages of the shipped SeaBIOS, whose image most
// stores have.
func writeSpec(ctx context.Context, dir, bin string) (string, error) {
	spec := filepath.Join(dir, "tcg.yaml")
	if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, bin, "lock", spec).CombinedOutput(); err != nil {
		return "", fmt.Errorf("lock: %w\n%s", err, out)
	}
	return spec, nil
}

const text = `name: tcg
guests: [debian-bookworm-x86_64]
sources:
  - {name: seabios, debian: seabios, version: 1.16.2-1}
stages:
  - name: work
    packages: [acpica-tools, gcc, libc6-dev, make, python3]
    script: |
      i=0
      while [ $i -lt 10 ]; do
        echo "int f$i(int *p, int n) { int s = $i; for (int i = 0; i < n; i++) s = s * 31 + (p[i] ^ (s >> 3)); return s; }"
        i=$((i + 1))
      done >work.c
      for i in 1 2; do gcc -O2 -c -o work.o work.c; done
      cp work.o "$OUT/work.o"
    outputs: [work.o]
artifacts:
  - {name: work.o, stage: work, path: work.o}
smoke: []
`
