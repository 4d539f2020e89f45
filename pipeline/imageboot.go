package pipeline

import (
	"context"
	"errors"
	"time"
)

// BootResult is what booting a guest for nothing but its boot came to.
type BootResult struct {
	Run     string        `json:"run"`
	Spec    string        `json:"spec"`
	Guest   string        `json:"guest"`
	Accel   string        `json:"accel"`
	Start   string        `json:"start"` // from power-on or from a saved state
	Marks   []Mark        `json:"marks"` // how far it was when
	Kernel  string        `json:"kernel"`
	Initrd  string        `json:"initrd"` // without the keys of this one run
	Root    string        `json:"root"`   // the root disk
	Cmdline string        `json:"cmdline"`
	Took    time.Duration `json:"took_ns"` // from Start to the agent's answer
}

// ImageBoot boots the guest that a spec's first stage is built in, until its agent answers, and ends it. Of a run that
// came to nothing the result is its id.
func ImageBoot(ctx context.Context, cfg Config, o BuildOptions) (_ *BootResult, err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := h.newJob(ctx, p, o, time.Now())
	if err != nil {
		return nil, err
	}
	if j.run, err = h.newRun(ctx, "boot "+p.loaded.Spec.Name); err != nil {
		return nil, err
	}
	h.followPhases(j.run)
	res, err := j.bootOnce(ctx)
	if err != nil {
		res = &BootResult{Run: j.run.ID()}
	}
	return res, errors.Join(err, j.finish(ctx, err))
}

// bootOnce boots the first stage's guest for the sake of its boot.
func (j *job) bootOnce(ctx context.Context) (_ *BootResult, err error) {
	if err := j.asked.prepare(ctx); err != nil {
		return nil, err
	}
	dir, err := j.run.Dir("boot")
	if err != nil {
		return nil, err
	}
	stage, err := j.firstStage()
	if err != nil {
		return nil, err
	}
	disks := stageDisks(dir)
	defer func() { err = errors.Join(err, disks.remove()) }()
	var g *booted
	if _, err = j.phase(PhaseBoot, "", "a guest for the sake of its boot", func() (string, error) {
		g, err = stage.bootStage(ctx, dir, disks)
		return g.came(), err
	}); err != nil {
		return nil, err
	}
	defer func() { err = stage.damagedImage(ctx, g.corrupted(errors.Join(err, g.Close()))) }()
	marks := g.trail.all()
	j.note(PhaseBoot, "boot: "+g.trail.String())
	return &BootResult{
		Run: j.run.ID(), Spec: stage.loaded.Spec.Name, Guest: stage.guest.Name, Accel: string(stage.decision.Accel), Start: g.from.String(), Marks: marks,
		Kernel: j.store.Path(stage.bundle.Kernel), Initrd: j.store.Path(stage.bundle.Initramfs),
		Root: j.store.Path(stage.image.Root), Cmdline: g.cmdline,
		Took: marks[len(marks)-1].At,
	}, nil
}
