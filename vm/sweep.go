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
	if said := r.said(info.ID); !said.Ended.IsZero() {
		return false, nil // another was quicker
	}
	info.Swept = time.Now().UTC().Truncate(time.Millisecond)
	info.Ended = lastSign(path, info.Swept)
	info.Kept = ""
	if info.Error == "" {
		info.Error = "its process ended without a word"
	}
	// The note comes last: whoever is killed before it leaves the rest to the next.
	if err := slim(path); err != nil {
		return false, err
	}
	if err := writeJSON(filepath.Join(path, stateFile), info); err != nil {
		return false, fault.New(fault.Host, "sweep run", "%w", err)
	}
	return true, nil
}

// lastSign is when a dead run last wrote to one of its files, other than its lock: as near as one can come to when it
// died.
func lastSign(root string, latest time.Time) time.Time {
	var last time.Time
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != lockFile {
			if info, err := d.Info(); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
		return nil
	})
	if last.IsZero() || last.After(latest) { // a clock that was set back
		last = latest
	}
	return last.UTC().Truncate(time.Millisecond)
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
			WithRemedy("end it first: belljar stop %s", filepath.Base(path))
	case err != nil:
		return fault.New(fault.Host, "remove run", "%w", err)
	}
	defer lock.Close()
	if err := os.RemoveAll(path); err != nil {
		return fault.New(fault.Host, "remove run", "%w", err)
	}
	return nil
}

// CleanOptions say which runs to remove.
type CleanOptions struct {
	OlderThan time.Duration // those that began longer ago than this
	All       bool          // those too that are younger
	DryRun    bool          // remove nothing, say what would be
}

// Clean removes the folders of runs that are over. It returns what it removed, and how many bytes the files there had.
func (r *Runs) Clean(o CleanOptions) (removed []Info, size int64, err error) {
	list, err := r.List()
	if err != nil {
		return nil, 0, err
	}
	for _, info := range list {
		path := filepath.Join(r.root, info.ID)
		if info.State == Running || !o.All && time.Since(info.Started) < o.OlderThan {
			continue
		}
		if info.Started.IsZero() { // perhaps just being made
			if st, err := os.Stat(path); err != nil || time.Since(st.ModTime()) < sweepAge {
				continue
			}
		}
		bytes := folderSize(path)
		if !o.DryRun {
			if err := r.Remove(info.ID); err != nil {
				return removed, size, err
			}
		}
		removed = append(removed, info)
		size += bytes
	}
	return removed, size, nil
}

// folderSize adds up the files below root. It is an estimate for people: what cannot be read counts nothing.
func folderSize(root string) int64 {
	var n int64
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
