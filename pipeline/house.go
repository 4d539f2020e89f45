package pipeline

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/watch"
)

// house is what the commands share: the store, the run folders, the machine maker, and who listens.
type house struct {
	Config
	store   *store.Store
	runs    *vm.Runs
	backend backend
	once    bool    // nothing is retried: what failed is to be looked at
	keeps   bool    // a guest in which something failed is kept
	kept    bool    // one was
	pace    vm.Pace // what times are stretched by, since the accelerator is chosen
	keyring func() (*debian.Keys, error)
	limits  func(vm.Pace) watch.Limits // of guests' standstill

	confined *confined
}

// open makes the folders that are missing and sweeps what dead runs left.
func open(cfg Config) (*house, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	file, err := readConfig(cfg.Config) // read always: a mistake in it is told even where it does not matter
	if err != nil {
		return nil, err
	}
	cfg = cfg.machines(file, os.Getenv)
	machines, err := newBackend(cfg)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fault.New(fault.Host, "open "+cfg.Dir, "%w", err).
			WithRemedy("give a folder that you may write with --dir or BELLJAR_DIR")
	}
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return nil, err
	}
	runs, err := vm.OpenRuns(filepath.Join(dir, "runs"))
	if err != nil {
		return nil, err
	}
	if _, err := runs.Sweep(); err != nil {
		return nil, err
	}
	return &house{
		Config: cfg, store: st, runs: runs, backend: machines, keyring: debian.Keyring, limits: watch.Defaults,
		confined: &confined{},
	}, nil
}

func (h *house) fetcher() (*fetch.Fetcher, error) {
	file, err := readConfig(h.Config.Config)
	if err != nil {
		return nil, err
	}
	mirrors, err := fetch.DefaultMirrors(file.Config, h.Mirrors...)
	if err != nil {
		return nil, err
	}
	return fetch.New(h.store, mirrors), nil
}

// report tells who listens, and stamps the time.
func (h *house) report(e Event) {
	if h.Report != nil {
		e.Time = time.Now()
		h.Report(e)
	}
}

func (h *house) note(p Phase, text string) { h.report(Event{Kind: Note, Phase: p, Text: text}) }

// phase runs one part of the work between its start and its end, and times it. work returns what came of it.
func (h *house) phase(p Phase, name, text string, work func() (string, error)) (Part, error) {
	start := time.Now()
	h.report(Event{Kind: PhaseStart, Phase: p, Name: name, Text: text})
	came, err := work()
	part := Part{Phase: p, Name: name, Took: time.Since(start)}
	if err == nil {
		h.report(Event{Kind: PhaseEnd, Phase: p, Name: name, Text: came, Took: part.Took})
	}
	return part, err
}

// plan is a spec with its lock, for one guest: what every command but 'lock' begins with.
type plan struct {
	loaded *specs.Loaded
	lock   *specs.Lock
	guest  *specs.Guest
	locked *specs.LockedGuest
	needed map[string]*plan // the specs that it needs, by name, in the same guest
	mark   string           // ends the names of its folders in a run; empty for the spec that a command was given
}

func makePlan(spec, lockPath, guest string) (*plan, error) {
	loaded, err := specs.Load(spec)
	if err != nil {
		return nil, err
	}
	g, err := loaded.Guest(guest)
	if err != nil {
		return nil, err
	}
	locks, err := specs.LoadLocks(loaded, lockPath)
	if err != nil {
		return nil, err
	}
	return planOf(loaded, locks, g, map[string]*plan{})
}

// planOf makes the plan of a spec and of those that it needs; each is made once.
func planOf(l *specs.Loaded, locks specs.Locks, g *specs.Guest, made map[string]*plan) (*plan, error) {
	name := l.Spec.Name
	if made[name] != nil {
		return made[name], nil
	}
	p := &plan{loaded: l, lock: locks[name], guest: g, needed: map[string]*plan{}}
	if len(made) > 0 {
		p.mark = "@" + flat(name)
	}
	if p.locked = p.lock.Guests[g.Name]; p.locked == nil {
		return nil, fault.New(fault.Input, "lock of "+name, "it has no guest %s", g.Name).
			WithRemedy("run: belljar lock %s", name)
	}
	made[name] = p
	for need, needed := range l.Needed {
		its, err := needed.Guest(g.Name)
		if err == nil {
			p.needed[need], err = planOf(needed, locks, its, made)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// all lists the plan and those of all that its spec needs, each once.
func (p *plan) all() []*plan {
	list := []*plan{p}
	for i := 0; i < len(list); i++ {
		for _, name := range slices.Sorted(maps.Keys(list[i].needed)) {
			if next := list[i].needed[name]; !slices.Contains(list, next) {
				list = append(list, next)
			}
		}
	}
	return list
}

// begin opens the house for work on a spec in one of its guests. Until release is called, nothing that the work relies
// on is collected under its feet.
func begin(cfg Config, spec, lockPath, guest string) (h *house, p *plan, release func(), err error) {
	if h, err = open(cfg); err != nil {
		return nil, nil, nil, err
	}
	if p, err = makePlan(spec, lockPath, guest); err != nil {
		return nil, nil, nil, err
	}
	if release, err = h.store.Pin(); err != nil {
		return nil, nil, nil, err
	}
	return h, p, release, nil
}

// cause is the reason why ctx ended, or err where it has not: a guest that panics cancels what talks to it,
// and the panic is what the user has to hear of.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// diskFull sees to it that a full disk is told as the host's fault, with its remedy, whichever of the many writers of
// disks and logs met it.
func diskFull(err error, dir string) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	if fault.KindOf(err) == fault.Host {
		for _, e := range fault.Chain(err) {
			if e.Remedy != "" {
				return err
			}
		}
	}
	return fault.New(fault.Host, "", "%w", err).
		WithRemedy("make room on the disk of %s (belljar clean does), or give another folder with --dir", dir)
}
