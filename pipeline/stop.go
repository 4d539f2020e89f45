package pipeline

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/belljar/belljar/vm"
)

// StopOptions are those of 'belljar stop'.
type StopOptions struct {
	Runs  []string      // each an id, a part of one, or 'last'
	All   bool          // every live run
	Wait  time.Duration // how long each may take to clean up
	Force bool          // kill those that take longer
}

// StopResult says how one run came to its end.
type StopResult struct {
	RunInfo
	How  string        `json:"how"` // stopped, killed, over (it had ended before) or dead (its process had)
	Took time.Duration `json:"took_ns"`
}

// Stop asks runs to end, as Ctrl-C in their terminals does, all of them at once, and waits until they have. What became
// of those that ended is told even when others did not.
func Stop(ctx context.Context, cfg Config, o StopOptions) ([]StopResult, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	ids, err := h.toStop(o)
	if err != nil {
		return nil, err
	}
	results, errs := make([]StopResult, len(ids)), make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			start := time.Now()
			got, err := h.runs.Stop(ctx, id, vm.StopOptions{Wait: o.Wait, Force: o.Force})
			results[i], errs[i] = StopResult{runInfo(got.Info), string(got.How), time.Since(start)}, err
		})
	}
	all.Wait()
	var ended []StopResult
	for i, r := range results {
		if errs[i] == nil {
			ended = append(ended, r)
		}
	}
	return ended, errors.Join(errs...)
}

// toStop are the ids of the runs that are meant, each once: all are known before any is stopped.
func (h *house) toStop(o StopOptions) ([]string, error) {
	var ids []string
	if o.All {
		infos, err := h.runs.List()
		for _, i := range infos {
			if i.State == vm.Running {
				ids = append(ids, i.ID)
			}
		}
		return ids, err
	}
	known := map[string]bool{}
	for _, name := range o.Runs {
		path, err := h.runPath(name)
		if err != nil {
			return nil, err
		}
		if id := filepath.Base(path); !known[id] {
			known[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}
