package vm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/fault"
)

// sweepAge spares folders that are just being made: between mkdir and lock a run looks dead.
const sweepAge = 5 * time.Second

// Sweep finds the runs that died (their lock is free, their end was never noted), marks them dead and removes their
// sockets, disks and temp files; the logs stay. It returns those that it swept now.
func (r *Runs) Sweep() ([]Info, error) {
	all, err := r.List()
	if err != nil {
		return nil, err
	}
	var swept []Info
	for _, info := range all {
		if info.State != Dead || !info.Ended.IsZero() {
			continue
		}
		path := filepath.Join(r.root, info.ID)
		if st, err := os.Stat(path); err != nil || time.Since(st.ModTime()) < sweepAge && info.Started.IsZero() {
			continue
		}
		done, err := r.bury(path, &info)
		if err != nil {
			return swept, err
		}
		if done {
			swept = append(swept, info)
		}
	}
	return swept, nil
}

// bury cleans up after a dead run, under its lock: another process may be sweeping too.
func (r *Runs) bury(path string, info *Info) (bool, error) {
	lock, err := takeLock(filepath.Join(path, lockFile))
	switch {
	case errors.Is(err, errLocked), errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fault.New(fault.Host, "sweep run", "%w", err)
	}
	defer lock.Close()
	info.Ended = time.Now().UTC().Truncate(time.Second)
	if info.Error == "" {
		info.Error = "its process ended without a word"
	}
	if err := writeJSON(filepath.Join(path, stateFile), info); err != nil {
		return false, fault.New(fault.Host, "sweep run", "%w", err)
	}
	return true, slim(path)
}

// Remove deletes a run's folder. A live run is refused.
func (r *Runs) Remove(id string) error {
	path, err := r.Path(id)
	if err != nil {
		return err
	}
	lock, err := takeLock(filepath.Join(path, lockFile))
	switch {
	case errors.Is(err, errLocked):
		return fault.New(fault.Usage, "remove run", "%s is running", filepath.Base(path)).
			WithRemedy("end it first (Ctrl-C in its terminal)")
	case err != nil:
		return fault.New(fault.Host, "remove run", "%w", err)
	}
	defer lock.Close()
	if err := os.RemoveAll(path); err != nil {
		return fault.New(fault.Host, "remove run", "%w", err)
	}
	return nil
}

// Clean removes the runs that are over and began longer than olderThan ago, or all that are over. It returns what it
// removed.
func (r *Runs) Clean(olderThan time.Duration, all bool) ([]Info, error) {
	list, err := r.List()
	if err != nil {
		return nil, err
	}
	var removed []Info
	for _, info := range list {
		if info.State == Running || !all && time.Since(info.Started) < olderThan {
			continue
		}
		if info.Started.IsZero() { // perhaps just being made
			if st, err := os.Stat(filepath.Join(r.root, info.ID)); err != nil || time.Since(st.ModTime()) < sweepAge {
				continue
			}
		}
		if err := r.Remove(info.ID); err != nil {
			return removed, err
		}
		removed = append(removed, info)
	}
	return removed, nil
}
