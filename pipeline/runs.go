package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// Runs lists the runs that left a folder, oldest first.
func Runs(cfg Config) ([]RunInfo, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	infos, err := h.runs.List()
	if err != nil {
		return nil, err
	}
	all := make([]RunInfo, 0, len(infos))
	for _, i := range infos {
		all = append(all, runInfo(i))
	}
	return all, nil
}

func runInfo(i vm.Info) RunInfo {
	return RunInfo{
		ID: i.ID, What: i.What, State: string(i.State), Phase: i.Phase, Name: i.Name, Since: i.Since, Error: i.Error,
		PID: i.PID, Kept: i.Kept, Started: i.Started, Stopping: i.Stopping, Ended: i.Ended, Swept: i.Swept,
	}
}

// Logs copies a run's logs to w: the one named part ('run', or a machine's folder with its log: 'stage-build/console'),
// or all of them under headings. With follow it waits for more until the run has ended.
func Logs(ctx context.Context, cfg Config, id, part string, follow bool, w io.Writer) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	root, err := h.runPath(id)
	if err != nil {
		return err
	}
	logs, err := logsIn(root)
	if err != nil {
		return err
	}
	if part == "" && !follow {
		for _, name := range logs {
			fmt.Fprintf(w, "==> %s <==\n", name)
			if err := copyLog(ctx, filepath.Join(root, name+".log"), w); err != nil {
				return err
			}
		}
		return listPictures(root, w)
	}
	if part == "" {
		part = "run"
	}
	if !slices.Contains(logs, part) {
		return fault.New(fault.Usage, "logs of "+filepath.Base(root),
			"no part %q; there is: %s", part, strings.Join(logs, ", "))
	}
	path := filepath.Join(root, part+".log")
	if !follow {
		return copyLog(ctx, path, w)
	}
	return h.followLog(ctx, filepath.Base(root), path, w)
}

// runPath finds a run by its id, a part of it, or 'last'.
func (h *house) runPath(id string) (string, error) {
	if id == "last" {
		all, err := h.runs.List()
		if err != nil {
			return "", err
		}
		if len(all) == 0 {
			return "", fault.New(fault.Usage, "runs", "there is none yet").WithRemedy("run: belljar build seabios")
		}
		id = all[len(all)-1].ID
	}
	return h.runs.Path(id)
}

// listPictures names the pictures of screens that a run left.
func listPictures(root string, w io.Writer) error {
	pictures, err := filesIn(root, ".png")
	for _, name := range pictures {
		fmt.Fprintf(w, "==> %s <==\na picture: %s.png\n", name, filepath.Join(root, name))
	}
	return err
}

// logsIn names a run's logs: their paths below its folder, without '.log'.
func logsIn(root string) ([]string, error) { return filesIn(root, ".log") }

func filesIn(root, ext string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil // a run that ends drops its empty folders
		}
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) == ext {
			rel, _ := filepath.Rel(root, path) // below root, by construction
			names = append(names, strings.TrimSuffix(rel, ext))
		}
		return err
	})
	return names, err
}

func copyLog(ctx context.Context, path string, w io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Host, "read log", "%w", err)
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return errors.Join(err, ctx.Err())
}

// followLog copies what a log grows by until its run is over.
func (h *house) followLog(ctx context.Context, id, path string, w io.Writer) error {
	gone := make(chan struct{})
	watched, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(gone)
		for watched.Err() == nil && h.alive(id) {
			select {
			case <-watched.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	r, err := vm.Follow(path, gone)
	if err != nil {
		return fault.New(fault.Host, "read log", "%w", err)
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return errors.Join(err, ctx.Err())
}

func (h *house) alive(id string) bool {
	all, err := h.runs.List()
	return err == nil && slices.ContainsFunc(all, func(i vm.Info) bool { return i.ID == id && i.State == vm.Running })
}

// Clean removes the folders of ended runs, and with Store empties the store: every object, and every result that is
// remembered. What is needed again is fetched and built again.
func Clean(ctx context.Context, cfg Config, o CleanOptions) (*CleanResult, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	removed, freed, err := h.runs.Clean(vm.CleanOptions{OlderThan: o.OlderThan, All: o.All, DryRun: o.DryRun})
	if err != nil {
		return nil, err
	}
	res := &CleanResult{Runs: len(removed), Bytes: freed}
	if !o.Store {
		return res, nil
	}
	if o.DryRun {
		u, err := h.store.Usage()
		res.Objects, res.Bytes = u.Objects, res.Bytes+u.Disk
		return res, err
	}
	got, err := h.store.Collect(ctx, func() (map[store.Digest]bool, error) { return nil, h.forget() })
	res.Objects, res.Bytes = got.Objects, res.Bytes+got.Bytes
	return res, err
}

// forget drops the names of all results, whose objects go next.
func (h *house) forget() error {
	for _, kind := range []string{"builds", "stages", "images", "bundles", "kernels", readyKind, stateKind, bootKind} {
		keys, err := h.store.List(kind)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := h.store.Unbind(kind, k); err != nil {
				return err
			}
		}
	}
	return nil
}
