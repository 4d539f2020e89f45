package pipeline

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/belljar/belljar/provision"
)

// Shell boots the guest of a spec's first stage, with the sources in place, and gives a person a shell in it, whose
// exit code it returns. Nothing of what happens there is kept.
func Shell(ctx context.Context, cfg Config, o BuildOptions, t ShellIO) (code int, err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return 0, err
	}
	defer release()
	j, err := h.newJob(ctx, p, o, time.Now())
	if err != nil {
		return 0, err
	}
	if j.run, err = h.newRun(ctx, "shell "+p.loaded.Spec.Name); err != nil {
		return 0, err
	}
	h.followPhases(j.run)
	defer func() { err = errors.Join(err, j.finish(ctx, err)) }()
	if err := j.asked.prepare(ctx); err != nil {
		return 0, err
	}
	stage, err := j.firstStage()
	if err != nil {
		return 0, err
	}
	dir, err := j.run.Dir("shell")
	if err != nil {
		return 0, err
	}
	disks := stageDisks(dir)
	defer func() { err = errors.Join(err, disks.remove()) }()
	var g *booted
	if _, err = j.phase(PhaseBoot, stage.name(), "a guest to look around in", func() (string, error) {
		g, err = stage.bootStage(ctx, dir, disks)
		return g.came(), err
	}); err != nil {
		return 0, err
	}
	defer func() { err = stage.damagedImage(ctx, g.corrupted(errors.Join(err, g.Close()))) }()
	err = g.Prepare(g.ctx, stage.guestStage())
	if err == nil {
		code, err = g.Shell(g.ctx, t.terminal())
	}
	if err != nil {
		return 0, g.explain(err)
	}
	return code, nil
}

// ShellIO is the terminal of 'belljar shell'.
type ShellIO struct {
	In      io.Reader
	Out     io.Writer
	Term    string // $TERM
	Size    ShellSize
	Resized <-chan ShellSize // each new size; may be nil
}

// ShellSize is a terminal's, in characters.
type ShellSize = provision.Size

func (t ShellIO) terminal() provision.Terminal {
	return provision.Terminal{In: t.In, Out: t.Out, Term: t.Term, Size: t.Size, Resized: t.Resized}
}
