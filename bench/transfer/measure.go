package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// row is one way to move bytes, and how long it took.
type row struct {
	name, key string
	bytes     int64
	took      time.Duration
}

func (r row) rate() float64 { return float64(r.bytes) / 1e6 / r.took.Seconds() }

// noiseInOutput is the noise that an output repeats.
const noiseInOutput = 32 << 20

// newNoise is what nobody can compress, and the same each time.
func newNoise() io.Reader { return rand.NewChaCha8([32]byte{'b', 'e', 'l', 'l'}) }

func measure(ctx context.Context, g *guest, o options) (rows []row, err error) {
	add := func(key, name string, n int64, took time.Duration, err error) error {
		if err == nil {
			rows = append(rows, row{name, key, n, took})
		}
		return err
	}
	n, sshBytes := o.mib<<20, o.sshMiB<<20
	took, err := g.shell("cat >/dev/null", io.LimitReader(newNoise(), sshBytes), io.Discard)
	if err := add("ssh-in", "SSH into the guest", sshBytes, took, err); err != nil {
		return rows, err
	}
	took, err = g.shell(fmt.Sprintf("head -c %d /inputs/sources/noise/data", sshBytes), nil, io.Discard)
	if err := add("ssh-out", "SSH out of the guest", sshBytes, took, err); err != nil {
		return rows, err
	}
	took, err = g.shell("echo 3 >/proc/sys/vm/drop_caches; cat /inputs/sources/noise/data >/dev/null", nil, io.Discard)
	if err := add("disk-in", "input disk, read by the guest", n, took, err); err != nil {
		return rows, err
	}
	for _, kind := range []struct{ key, name, script string }{
		// Of little input, so that the file is in the guest's memory when it is taken, as what a build made last is.
		{"disk-out", "output of noise", fmt.Sprintf("for i in $(seq %d); do head -c %d /inputs/sources/noise/data; done >$OUT/file", n/noiseInOutput, noiseInOutput)},
		// After an input of the same length, which leaves no room for all of it: the rest is read from the scratch disk.
		{"disk-out-cold", "output of noise, part of it on the scratch disk", "cat /inputs/sources/noise/data >$OUT/file"},
		{"sparse", "sparse output, 1 MiB of noise in it", fmt.Sprintf("head -c 1048576 /inputs/sources/noise/data >$OUT/file; truncate -s %d $OUT/file", n)},
	} {
		writing, all, err := g.stage(ctx, kind.script+"; sync")
		if err := add(kind.key+"-guest", kind.name+": agent to disk", n, writing, err); err != nil {
			return rows, err
		}
		_ = add(kind.key, kind.name+": until the host has it, checked, SHA-256", n, all, nil)
	}
	return rows, nil
}

// table prints the rows, how each compares with SSH the same way, and 'figure NAME VALUE UNIT' lines.
func table(w io.Writer, rows []row) {
	fmt.Fprintf(w, "%-88s %8s %9s %9s\n", "", "MiB", "seconds", "MB/s")
	rate := map[string]float64{}
	for _, r := range rows {
		fmt.Fprintf(w, "%-88s %8d %9.2f %9.1f\n", r.name, r.bytes>>20, r.took.Seconds(), r.rate())
		rate[r.key] = r.rate()
	}
	for _, f := range []struct{ key, than string }{{"disk-in", "ssh-in"}, {"disk-out", "ssh-out"}, {"disk-out-cold", "ssh-out"}, {"sparse", "ssh-out"}} {
		if rate[f.key] > 0 && rate[f.than] > 0 {
			fmt.Fprintf(w, "figure %s-of-%s %.1f x\n", f.key, f.than, rate[f.key]/rate[f.than])
		}
	}
}
