package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// withSignals gives a context that the first Ctrl-C or SIGTERM cancels. The second one ends the program at once;
// what it leaves behind (a stale run folder, a machine) dies with the supervisor or is swept at the next start.
func withSignals(parent context.Context, s *screen) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-ch:
		case <-done:
			return
		}
		s.note("stopping: cleaning up, once more kills")
		cancel(errInterrupted)
		select {
		case <-ch:
			s.abandon()
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}
