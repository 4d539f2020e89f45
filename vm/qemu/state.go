package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// A state is QEMU's migration stream (docs/devel/migration.rst in its tree), as it goes from one QEMU to another. It
// goes through a pipe that QEMU is handed on its monitor: no socket, no file, and no program that QEMU would have to
// start, which its sandbox forbids.

var (
	_ vm.Saver    = (*guest)(nil)
	_ vm.Restorer = (*Backend)(nil)
)

const (
	commandLimit = 30 * time.Second     // for an answer of the monitor; the machine stands still
	receiveLimit = 2 * time.Minute      // for a whole state: some hundred MB, which a busy host reads in seconds
	statePoll    = 5 * time.Millisecond // between two questions how far the state is
	pipeSize     = 1 << 20              // the most that an unprivileged user may ask for (pipe(7))
	stateName    = "state"              // what QEMU knows the pipe by
)

var errReceive = fmt.Errorf("QEMU has not taken the state within %s", receiveLimit)

// Restore starts m from a state that Save wrote.
func (b *Backend) Restore(ctx context.Context, m vm.Machine, dir string, state io.Reader) (vm.Guest, error) {
	return b.start(ctx, m, dir, state)
}

// Save stops the machine and writes its state.
func (g *guest) Save(ctx context.Context, w io.Writer) error {
	if err := g.save(ctx, w); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fault.New(fault.Host, "save "+g.Name, "%w", err)
	}
	return nil
}

func (g *guest) save(ctx context.Context, w io.Writer) error {
	if err := g.monitor.do(commandLimit, "stop"); err != nil {
		return err
	}
	g.stopped.Store(true)
	// QEMU holds itself back for the sake of a network that is not there.
	err := g.monitor.ask(commandLimit, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 40}, nil)
	if err != nil {
		return err
	}
	from, to, err := pipe()
	if err != nil {
		return err
	}
	defer from.Close()
	err = g.monitor.hand(commandLimit, stateName, to)
	to.Close()
	if err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, from)
		from.Close() // QEMU stops where nobody takes what it gives
		copied <- err
	}()
	err = g.monitor.ask(commandLimit, "migrate", map[string]any{"uri": "fd:" + stateName}, nil)
	if err == nil {
		err = g.migrated(ctx)
	}
	if err != nil {
		from.Close()
	}
	return errors.Join(<-copied, err)
}

// receive has QEMU load a state, and waits until it has all of it.
func (g *guest) receive(ctx context.Context, state io.Reader) error {
	in := bufio.NewReaderSize(state, pipeSize)
	if _, err := in.Peek(1); err != nil { // QEMU would wait for its first byte for ever
		return fmt.Errorf("read state: %w", err)
	}
	from, to, err := pipe()
	if err != nil {
		return err
	}
	defer to.Close()
	err = g.monitor.hand(commandLimit, stateName, from)
	from.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, receiveLimit, errReceive)
	defer cancel()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(to, in)
		to.Close()
		copied <- err
	}()
	err = g.monitor.ask(commandLimit, "migrate-incoming", map[string]any{"uri": "fd:" + stateName}, nil)
	if err == nil {
		err = g.migrated(ctx)
	}
	if err != nil {
		to.Close()
	}
	return errors.Join(<-copied, err)
}

// migrated waits for the end of a migration, in or out (query-migrate, qapi/migration.json).
func (g *guest) migrated(ctx context.Context) error {
	for {
		var info struct {
			Status string
			Error  string `json:"error-desc"`
		}
		if err := g.monitor.ask(commandLimit, "query-migrate", nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU says that it has %s: %s", info.Status, info.Error)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.Gone():
			return errors.New("QEMU ended meanwhile")
		case <-time.After(statePoll):
		}
	}
}

// pipe is os.Pipe with room for more.
func pipe() (from, to *os.File, err error) {
	if from, to, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	_, _ = unix.FcntlInt(to.Fd(), unix.F_SETPIPE_SZ, pipeSize) // where it may not be, it is merely slower
	return from, to, nil
}
