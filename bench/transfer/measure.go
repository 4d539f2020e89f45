package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/belljar/belljar/provision"
)

// row is one way to move bytes, and how long it took.
type row struct {
	name, key string
	bytes     int64
	took      time.Duration
}

func (r row) rate() float64 { return float64(r.bytes) / 1e6 / r.took.Seconds() }

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
		{"disk-out", "output of noise", "cat /inputs/sources/noise/data >$OUT/file"},
		{"sparse", "sparse output, 1 MiB of noise in it", fmt.Sprintf("head -c 1048576 /inputs/sources/noise/data >$OUT/file; truncate -s %d $OUT/file", n)},
	} {
		res, writing, err := g.stage(kind.script+"; sync", "file")
		if err := add(kind.key+"-guest", kind.name+": agent to disk", n, writing, err); err != nil {
			return rows, err
		}
		start := time.Now()
		err = provision.ReadOutputs(ctx, g.disk, []string{"file"}, res.Stream, func(_ provision.Output, r io.Reader) error {
			_, err := io.CopyBuffer(sha256.New(), r, make([]byte, 1<<20))
			return err
		})
		reading := time.Since(start)
		if err := add(kind.key+"-host", kind.name+": host reads, checks, SHA-256", n, reading, err); err != nil {
			return rows, err
		}
		_ = add(kind.key, kind.name+": both", n, writing+reading, nil)
	}
	return rows, nil
}

// table prints the rows, how each compares with SSH the same way, and 'figure NAME VALUE UNIT' lines.
func table(w io.Writer, rows []row) {
	fmt.Fprintf(w, "%-62s %8s %9s %9s\n", "", "MiB", "seconds", "MB/s")
	rate := map[string]float64{}
	for _, r := range rows {
		fmt.Fprintf(w, "%-62s %8d %9.2f %9.1f\n", r.name, r.bytes>>20, r.took.Seconds(), r.rate())
		rate[r.key] = r.rate()
	}
	for _, f := range []struct{ key, than string }{{"disk-in", "ssh-in"}, {"disk-out", "ssh-out"}, {"sparse", "ssh-out"}} {
		if rate[f.key] > 0 && rate[f.than] > 0 {
			fmt.Fprintf(w, "figure %s-of-%s %.1f x\n", f.key, f.than, rate[f.key]/rate[f.than])
		}
	}
}
