package vm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// StopOptions say how a run is ended.
type StopOptions struct {
	Wait  time.Duration // how long it may take to clean up; 0 is DefaultStopWait
	Force bool          // kill it when that is over
}

// DefaultStopWait is longer than it takes to end a machine that does not want to.
const DefaultStopWait = 30 * time.Second

// Stopped is how a run came to its end.
type Stopped struct {
	Info
	How StopHow
}

// StopHow says what it took to end a run.
type StopHow string

// The ways in which a run ends when it is asked to.
const (
	StopAsked  StopHow = "stopped" // it cleaned up and ended when asked
	StopKilled StopHow = "killed"  // it did not, and was killed
	StopOver   StopHow = "over"    // it had ended before
	StopDead   StopHow = "dead"    // its process had died before
)

// Stop asks a run to end, as Ctrl-C in its terminal does, and waits until it has. A run that is being stopped already is
// not asked again: that would kill it.
func (r *Runs) Stop(ctx context.Context, id string, o StopOptions) (Stopped, error) {
	path, err := r.Path(id)
	if err != nil {
		return Stopped{}, err
	}
	if o.Wait == 0 {
		o.Wait = DefaultStopWait
	}
	id = filepath.Base(path)
	info := r.info(id)
	if info.State != Running {
		return r.notLive(path, info)
	}
	process, err := r.process(info)
	if err != nil || process == nil {
		if info = r.info(id); err == nil && info.State != Running {
			return r.notLive(path, info) // it ended while it was looked for
		}
		return Stopped{Info: info}, err
	}
	defer func() { _ = process.Release() }()
	if info.Stopping.IsZero() {
		if err := process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return Stopped{Info: info}, notYours(id, err)
		}
	}
	ended, err := r.await(ctx, id, o.Wait)
	if err != nil {
		return Stopped{Info: info}, err
	}
	if ended {
		return r.howEnded(path, StopAsked)
	}
	if !o.Force {
		return Stopped{Info: info}, fault.New(fault.Host, "stop "+id, "it has not ended within %s", o.Wait).
			WithRemedy("wait for longer with --wait, or kill it: belljar stop %s --force", id)
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return Stopped{Info: info}, notYours(id, err)
	}
	if ended, err = r.await(ctx, id, DefaultStopWait); err == nil && !ended {
		err = fault.New(fault.Host, "stop "+id, "process %d is there still, though it was killed", info.PID).
			WithRemedy("it waits for the kernel, as for a disk that does not answer: see dmesg")
	}
	if err != nil {
		return Stopped{Info: info}, err
	}
	return r.howEnded(path, StopKilled)
}

// process finds the process of a live run. The number in run.json alone is no proof, for numbers are given again: the
// process behind it must hold the run's lock. The handle is taken before that is looked at, so that it is the process
// that was looked at, or one that is gone (pidfd_open(2)). Nil without an error means that the run has ended meanwhile.
func (r *Runs) process(info Info) (*os.Process, error) {
	op := "stop " + info.ID
	stranger := fault.New(fault.Host, op, "process %d, which it names, does not hold its lock", info.PID).
		WithRemedy("it runs on another host or in another container: stop it there")
	if info.PID <= 0 {
		return nil, stranger
	}
	p, err := os.FindProcess(info.PID)
	if err != nil {
		return nil, fault.New(fault.Host, op, "%w", err)
	}
	held, err := holds(info.PID, filepath.Join(r.root, info.ID, lockFile))
	if held {
		return p, nil
	}
	_ = p.Release()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, notYours(info.ID, err)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Host, op, "%w", err)
	case r.info(info.ID).State != Running:
		return nil, nil
	}
	return nil, stranger
}

func notYours(id string, err error) error {
	e := fault.New(fault.Host, "stop "+id, "%w", err)
	if errors.Is(err, fs.ErrPermission) {
		return e.WithRemedy("another user began it: stop it as that user, or as root")
	}
	return e
}

// await waits until nobody holds a run's lock.
func (r *Runs) await(ctx context.Context, id string, limit time.Duration) (bool, error) {
	late := time.After(limit)
	for r.info(id).State == Running {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-late:
			return false, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true, nil
}

// howEnded tells of a run that has just ended, and sweeps what it could not.
func (r *Runs) howEnded(path string, how StopHow) (Stopped, error) {
	info := r.info(filepath.Base(path))
	if info.State == Dead && info.Swept.IsZero() {
		if _, err := r.bury(path, &info); err != nil {
			return Stopped{info, how}, err
		}
	}
	return Stopped{info, how}, nil
}

// notLive tells of a run that had nothing to stop.
func (r *Runs) notLive(path string, info Info) (Stopped, error) {
	if info.State == Dead {
		return r.howEnded(path, StopDead)
	}
	return Stopped{info, StopOver}, nil
}
