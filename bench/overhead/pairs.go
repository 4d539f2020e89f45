package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
)

// pin lets a command, and what it starts, use one processor of the host's; empty: all.
func pin(cmd *exec.Cmd, cpu string) {
	if cpu == "" {
		return
	}
	cmd.Args = append([]string{"taskset", "-c", cpu}, cmd.Args...) // it executes the command: the process is the same
	cmd.Path, cmd.Err = exec.LookPath("taskset")
}

// pair is two variants that run at the same time. In figures it is called by the second's name.
type pair struct{ first, second variant }

// run runs both; when one fails, the other is ended too.
func (p pair) run(ctx context.Context, cpus []string) (first, second sample, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if first, err = p.first.run(ctx, cpus[0]); err != nil {
			stop(err)
		}
	}()
	if second, err = p.second.run(ctx, cpus[1]); err != nil {
		stop(err)
	}
	<-done
	return first, second, context.Cause(ctx)
}

// inPairs runs by hand and recorded at the same time, each on a processor of its own, which they change in each round;
// and, to show what the way of measuring is worth, by hand twice.
func (b *bench) inPairs(ctx context.Context) error {
	console, _, recorded := b.variants()
	pairs := []pair{{console, recorded}, {console, console}}
	ratios := map[string]map[string][]float64{}
	for _, p := range pairs {
		ratios[p.second.name] = map[string][]float64{}
	}
	for round := range b.rounds {
		cpus := []string{"0", "1"}
		if round%2 == 1 {
			slices.Reverse(cpus)
		}
		for _, p := range pairs {
			first, second, err := p.run(ctx, cpus)
			if err != nil {
				return fmt.Errorf("%s beside %s: %w", p.first.name, p.second.name, err)
			}
			tell(round, p.first.name, first)
			tell(round, p.second.name, second)
			for _, part := range parts {
				ratios[p.second.name][part.name] = append(ratios[p.second.name][part.name], second[part.name].cpu/first[part.name].cpu)
			}
		}
	}
	printPairs(os.Stdout, ratios)
	return nil
}

// printPairs writes, for each part, the mean ratio of QEMU's processor time in each kind of pair and what it may be off by,
// then 'figure NAME VALUE UNIT' lines.
func printPairs(w io.Writer, ratios map[string]map[string][]float64) {
	var figures string
	for _, part := range parts {
		fmt.Fprintf(w, "\n%s\n%-22s %5s %6s %8s   %s\n", part.what, "QEMU's cpu", "pairs", "mean", "median", "95 % of the mean")
		for _, name := range []string{"recorded", "console"} {
			r := ratios[name][part.name]
			mean, low, high := geometric(r)
			fmt.Fprintf(w, "%-22s %5d %6.3f %8.3f   %.3f to %.3f\n", name+" of console", len(r), mean, median(r), low, high)
			figures += fmt.Sprintf("figure overhead-pairs-%s-%s %.3f x\n", part.name, name, mean)
		}
	}
	fmt.Fprintf(w, "\nbar 1.030\n%s", figures)
}

// geometric is the geometric mean of ratios, and the bounds between which that of endless rounds lies with 95 %
// (Student's t of their logarithms). Of one ratio nothing is known.
func geometric(ratios []float64) (mean, low, high float64) {
	n := float64(len(ratios))
	var sum, squares float64
	for _, r := range ratios {
		sum += math.Log(r)
	}
	for _, r := range ratios {
		squares += math.Pow(math.Log(r)-sum/n, 2)
	}
	off := math.Inf(1)
	if n > 1 {
		off = student(len(ratios)-1) * math.Sqrt(squares/(n-1)/n)
	}
	return math.Exp(sum / n), math.Exp(sum/n - off), math.Exp(sum/n + off)
}

// student is the 97.5 % quantile of Student's t; beyond the table, of a normal distribution, near enough.
func student(freedom int) float64 {
	table := []float64{12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13}
	if freedom <= len(table) {
		return table[freedom-1]
	}
	return 1.96 + 2.5/float64(freedom)
}
