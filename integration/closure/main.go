// Command closure compares Belljar's dependency resolver with apt's: for names picked from the archive by a fixed rule,
// and for every package of the shipped specs, it asks both what an install would bring, and prints each difference.
//
// It knows apt's command line and the package image/debian. It keeps an apt root of its own, with an empty dpkg status,
// the machine's mirrors and proxy, and no other of its settings; so it needs no privilege, and no network once the
// indexes are there. It refuses to know why apt decides as it does: a difference that is meant stands, with its
// reason, in the file explained.txt, and an explanation that no longer explains anything is an error.
//
// What is compared: on apt's side the packages that `apt-get install --no-install-recommends` would install (asked with
// --print-uris, or -s, which takes the same decision), for an empty system, when it is asked for every Essential package, usr-is-merged and the name; on Belljar's side the closure of
// the name, in which Essential packages always are, and in which usr-is-merged fulfils `usrmerge | usr-is-merged`.
// Names and versions must be the same. Where apt finds no way to install a name, Belljar must refuse it too.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// targets are the guests' worlds that are compared.
var targets = []target{
	{"bookworm", "amd64"},
	{"bookworm", "i386"},
	{"trixie", "amd64"},
}

type options struct {
	dir       string
	update    bool
	n         int
	only      string
	target    string
	explained string
	keyring   string
	simulate  bool
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", ".cache/closure", "`folder` of the private apt root")
	flag.BoolVar(&o.update, "update", false, "fetch the indexes anew")
	flag.IntVar(&o.n, "n", 200, "how many names of the archive to compare")
	flag.StringVar(&o.only, "only", "", "compare this `name` alone")
	flag.StringVar(&o.target, "target", "", "compare only targets whose `name` has this in it, as in trixie or i386")
	flag.StringVar(&o.explained, "explained", "integration/closure/explained.txt", "`file` of differences that are meant")
	flag.StringVar(&o.keyring, "keyring", "image/debian/keyring/debian-archive-keyring.gpg", "`file` with the archive's keys")
	flag.BoolVar(&o.simulate, "simulate", false, "ask apt with -s, which takes twice as long")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "closure:", err)
		code = 1
	}
	os.Exit(code)
}

// run compares all targets; code 1 says that there are differences nobody explained.
func run(ctx context.Context, o options) (code int, err error) {
	reasons, err := readExplained(o.explained)
	if err != nil {
		return 1, err
	}
	fmt.Printf(row, "target", "names", "same", "refused by both", "explained", "differ", "read", "median", "slowest", "of")
	var differing []string
	for _, t := range targets {
		if !strings.Contains(t.String(), o.target) {
			continue
		}
		r, err := compareAll(ctx, o, t, reasons)
		if err != nil {
			return 1, fmt.Errorf("%s: %w", t, err)
		}
		fmt.Printf(row, t, fmt.Sprint(r.names), fmt.Sprint(r.same), fmt.Sprint(r.refused), fmt.Sprint(r.explained),
			fmt.Sprint(len(r.differ)), ms(r.load), ms(r.median), ms(r.slowest), r.slowestName)
		for _, d := range r.differ {
			fmt.Println("  " + d)
		}
		differing = append(differing, r.differ...)
	}
	if o.only == "" && o.target == "" && o.n >= 200 {
		for _, r := range reasons.unused() {
			differing = append(differing, r)
			fmt.Printf("%s: explains a difference that is not there\n", r)
		}
	}
	if len(differing) > 0 {
		return 1, nil
	}
	return 0, nil
}

// row is a line of the table: the last columns are the time to read the indexes, and to resolve one list of names.
const row = "%-16s %6s %6s %16s %10s %7s %10s %9s %9s  %s\n"

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// result is what comparing one target came to.
type result struct {
	names, same, refused, explained int
	differ                          []string
	load, median, slowest           time.Duration
	slowestName                     string
}

// compareAll compares all names of one target, one a processor at a time.
func compareAll(ctx context.Context, o options, t target, reasons *explained) (*result, error) {
	dir, err := filepath.Abs(filepath.Join(o.dir, t.String()))
	if err != nil {
		return nil, err
	}
	apt, err := openApt(ctx, dir, o.keyring, t, o.update)
	if err != nil {
		return nil, err
	}
	apt.simulate = o.simulate
	start := time.Now()
	idx, err := apt.index(ctx)
	if err != nil {
		return nil, err
	}
	res := &result{load: time.Since(start)}
	lists, err := asked(idx, t, o)
	if err != nil {
		return nil, err
	}
	essential := essentials(idx, t.arch)
	found := make([]outcome, len(lists))
	work := make(chan int)
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for i := range work {
				found[i] = compare(ctx, apt, idx, t.arch, essential, lists[i])
			}
		})
	}
	for i := range lists {
		work <- i
	}
	close(work)
	all.Wait()
	var took []time.Duration
	for i, f := range found {
		name := strings.Join(lists[i], "+")
		if f.err != nil {
			return nil, fmt.Errorf("%s: %w", name, f.err)
		}
		took = append(took, f.took)
		if f.took > res.slowest {
			res.slowest, res.slowestName = f.took, name
		}
		res.names++
		switch {
		case f.difference == "" && f.refused:
			res.refused++
		case f.difference == "":
			res.same++
		case reasons.has(t, name, f.difference):
			res.explained++
		default:
			res.differ = append(res.differ, fmt.Sprintf("%s %s: %s", t, name, f.difference))
		}
	}
	slices.Sort(took)
	res.median = took[len(took)/2]
	return res, nil
}
