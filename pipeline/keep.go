package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/vm"
)

// answerTime is how long a guest that may be kept has to answer SSH.
const answerTime = 20 * time.Second

// keep leaves a guest running after a failure, until ctx ends or the guest does, and lets shells in: with --keep, and
// where it answers SSH, even if its agent does not. One that does not answer could be entered by nobody; what it left
// (its console, the command line that boots the like) is in the failure's evidence.
func (h *house) keep(ctx context.Context, run *vm.Run, g *booted, p Phase, failure error) {
	if !h.keeps || ctx.Err() != nil {
		return
	}
	warn := func(format string, args ...any) {
		h.report(Event{Kind: Warning, Phase: p, Text: fmt.Sprintf(format, args...)})
	}
	asking, cancel := context.WithTimeout(g.ctx, answerTime)
	defer cancel()
	if err := g.Ping(asking); err != nil {
		warn("the guest cannot be kept: %v", cause(g.ctx, err))
		return
	}
	l, err := listenIn(run.Path(), doorName)
	if err != nil {
		warn("the guest cannot be kept, for no shell can be let in: %v", err)
		return
	}
	defer l.Close()
	stop := context.AfterFunc(g.ctx, func() { l.Close() })
	defer stop()
	if err := run.Keeps(filepath.Base(g.dir), failure); err != nil {
		warn("%v", err)
	}
	h.kept = true
	defer func() { _ = run.Keeps("", nil) }() // for onlookers
	warn("%v. The guest is kept: enter it with 'belljar shell %s'; end it with Ctrl-C here or 'belljar stop %s'; "+
		"its logs: belljar logs %s", failure, run.ID(), run.ID(), run.ID())
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		go func() {
			defer c.Close()
			serveDoor(g.ctx, c, g.Shell)
		}()
	}
	if ctx.Err() == nil {
		warn("the kept guest is gone: %v", context.Cause(g.ctx))
	}
}
