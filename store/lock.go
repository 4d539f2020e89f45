package store

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// flock takes a flock(2) on f; it ends with the open file description, so also when the process is killed.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// flockWait polls, because a blocked flock(2) cannot be called off.
func flockWait(ctx context.Context, f *os.File, how int) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := flock(f, how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// flockSoon bears with somebody who only looks whether the lock is free, as a sweep does, before it gives up with
// EWOULDBLOCK.
func flockSoon(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, unix.EWOULDBLOCK)
	defer cancel()
	return flockWait(ctx, f, unix.LOCK_EX)
}

// linked reports whether path still names the open file f: it does not if another process removed or replaced it
// between our open and our flock.
func linked(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Pin keeps Collect out until release is called or the process ends. Whoever relies on an object staying there
// between two calls (a run: from Has to Bind) holds a pin. Any number of pins may be held at once.
func (s *Store) Pin() (release func(), err error) {
	f, err := s.openLock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := flockWait(ctx, f, unix.LOCK_SH); err != nil {
		f.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fault.New(fault.Host, "pin store", "another belljar has been cleaning %s for a minute", s.dir).
				WithRemedy("Wait for it to end, then try again.")
		}
		return nil, hostFault("pin store", s.dir, -1, err)
	}
	return func() { f.Close() }, nil
}

func (s *Store) openLock() (*os.File, error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, hostFault("lock store", s.dir, -1, err)
	}
	return f, nil
}

// Claim takes the claim on a name, under which the caller is about to Bind something that takes long to make. Only one
// holds it at a time, of all goroutines and processes; it ends with release or with the process. Whoever has got it
// looks the name up once more: the one before has probably made it. waiting, which may be nil, is called before a wait.
func (s *Store) Claim(ctx context.Context, kind, key string, waiting func()) (release func(), err error) {
	if _, err := s.refPath(kind, key); err != nil {
		return nil, err
	}
	path := s.path("claims", kind+"-"+escapeKey(key))
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, hostFault("claim "+kind, s.dir, -1, err)
		}
		err = flockSoon(ctx, f)
		if errors.Is(err, unix.EWOULDBLOCK) {
			if waiting != nil {
				waiting()
				waiting = nil
			}
			err = flockWait(ctx, f, unix.LOCK_EX)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			f.Close()
			return nil, err
		case err != nil:
			f.Close()
			return nil, hostFault("claim "+kind, s.dir, -1, err)
		case linked(f, path):
			return func() { os.Remove(path); f.Close() }, nil // in this order: nobody may own a file without a name
		}
		f.Close() // the one before has removed it
	}
}
