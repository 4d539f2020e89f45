package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// oneSignal is how close together signals count as one: timeout(1) sends its signal to the program and then to the
// program's group, so that it comes twice.
const oneSignal = 300 * time.Millisecond

// withSignals gives a context that the first Ctrl-C, SIGTERM or SIGHUP cancels. The second one ends the program at
// once; what it leaves behind (a stale run folder, a machine) dies with the supervisor or is swept at the next start.
func withSignals(parent context.Context, s *screen) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup(1) asks for; otherwise a closed terminal stops the work
		signal.Notify(ch, syscall.SIGHUP)
	}
	go func() {
		select {
		case <-ch:
		case <-done:
			return
		}
		s.note("stopping: cleaning up, once more kills")
		cancel(errInterrupted)
		first := time.Now()
		for {
			select {
			case <-ch:
				if time.Since(first) < oneSignal {
					continue
				}
				s.abandon()
				os.Exit(exitInterrupted)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}
