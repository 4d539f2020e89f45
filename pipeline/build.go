package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

// Build makes a spec's artifacts in one of its guests, boots them, and hands over those that passed.
// What is known by its identity is not worked for again.
func Build(ctx context.Context, cfg Config, o BuildOptions) (_ *BuildResult, err error) {
	started := time.Now()
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := h.newJob(ctx, p, o, started)
	if err != nil {
		return nil, err
	}
	if !o.NoCache {
		if res, err := j.fromCache(ctx); res != nil || err != nil {
			return res, err
		}
	}
	if j.run, err = h.newRun(ctx, "build "+p.loaded.Spec.Name); err != nil {
		return nil, err
	}
	h.followPhases(j.run)
	res, err := j.work(ctx)
	if err != nil {
		res = &BuildResult{
			Run: j.run.ID(), Spec: p.loaded.Spec.Name, Guest: p.guest.Name, Verdicts: showVerdicts(j.verdicts),
			Kept: h.kept,
		}
	}
	return res, errors.Join(err, j.finish(ctx, err))
}

// job is one build on its way.
type job struct {
	*house
	*plan
	opts     BuildOptions
	run      *vm.Run // nil while only the cache is asked
	started  time.Time
	qemu     string // version
	agent    string // digest of the guest-agent
	ids      identities
	decision vm.Decision
	image    builtImage
	bundle   *bundle
	stages   map[string]*stageResult
	parts    []Part
	verdicts []namedVerdict
}

// identities are known before any work is done: they follow from spec, lock, agent and emulator alone.
type identities struct {
	image  string
	stages map[string]string
	build  string
}

func (h *house) newJob(ctx context.Context, p *plan, o BuildOptions, started time.Time) (*job, error) {
	_, agent, err := provision.Agent(p.guest.Arch)
	if err != nil {
		return nil, err
	}
	qemu, err := h.backend.Version(ctx, p.guest.Arch)
	if err != nil {
		return nil, err
	}
	h.once, h.keeps = o.Keep, o.Keep
	j := &job{house: h, plan: p, opts: o, started: started, qemu: qemu, agent: agent, stages: map[string]*stageResult{}}
	j.ids.image = imageIdentity(p.guest, p.locked, agent)
	j.ids.stages = map[string]string{}
	for _, s := range inOrder(p.loaded.Spec.Stages) {
		var needs []string
		for _, n := range s.Needs {
			needs = append(needs, j.ids.stages[n])
		}
		j.ids.stages[s.Name] = stageIdentity(&s, j.ids.image, p.guest, p.lock.Sources, needs, agent)
	}
	j.ids.build = identity([]any{
		"build", p.lock.Spec.Digest, p.guest.Name, j.ids.stages, p.loaded.Spec.Artifacts, p.loaded.Spec.Smoke, qemu,
		h.Version,
	})
	return j, nil
}

// inOrder lists the stages so that each comes after those that it needs, otherwise in the order of the spec.
// The spec has been checked: names are known and there is no cycle.
func inOrder(stages []specs.Stage) []specs.Stage {
	done := map[string]bool{}
	var order []specs.Stage
	var visit func(s specs.Stage)
	visit = func(s specs.Stage) {
		if done[s.Name] {
			return
		}
		done[s.Name] = true
		for _, n := range s.Needs {
			for _, t := range stages {
				if t.Name == n {
					visit(t)
				}
			}
		}
		order = append(order, s)
	}
	for _, s := range stages {
		visit(s)
	}
	return order
}

// work does what the cache could not answer.
func (j *job) work(ctx context.Context) (*BuildResult, error) {
	if err := j.prepare(ctx); err != nil {
		return nil, err
	}
	if err := j.runStages(ctx); err != nil {
		return nil, err
	}
	files, err := j.quarantine(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.smoke(ctx, files); err != nil {
		return nil, err
	}
	return j.handOver(ctx, files)
}

// prepare brings in what the build needs: files, kernel, accelerator, image.
func (j *job) prepare(ctx context.Context) error {
	items := pinned(j.lock, j.locked)
	if j.opts.Offline {
		if err := j.needStored(items, j.opts.Spec); err != nil {
			return err
		}
	}
	_, parts, err := j.fetchMissing(ctx, items)
	if err != nil {
		return err
	}
	j.parts = append(j.parts, parts...)
	if err := j.verifyAll(ctx, items); err != nil {
		return err
	}
	if j.bundle, err = j.house.bundle(ctx, j.guest, j.locked); err != nil {
		return err
	}
	start := time.Now()
	if j.decision, err = j.decideAccel(ctx, j.opts.Accel, j.plan, j.bundle, j.run); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Second {
		j.parts = append(j.parts, Part{Phase: PhaseAccel, Took: took})
	}
	j.image, parts, err = j.house.image(ctx, j.plan, j.bundle, j.ids.image, j.decision.Accel, j.run)
	j.parts = append(j.parts, parts...)
	if err == nil {
		j.image = j.noteUse(j.ids.image, j.plan, j.image, len(parts) > 0)
	}
	return err
}

// quarantine lays the artifacts into the run's folder, where they stay until they have passed.
func (j *job) quarantine(ctx context.Context) (map[string]string, error) {
	files := map[string]string{}
	for _, a := range j.loaded.Spec.Artifacts {
		out := j.stages[a.Stage].output(a.Path)
		if out == nil {
			return nil, fault.New(fault.Build, "stage "+a.Stage, "it has no output %s", a.Path).
				WithRemedy("add it to the stage's outputs")
		}
		path := filepath.Join(j.run.Quarantine(), a.Name)
		if err := j.export(ctx, out.Digest, path, os.FileMode(out.Mode)); err != nil {
			return nil, err
		}
		files[a.Name] = path
	}
	return files, nil
}

// handOver moves the artifacts out of quarantine, writes the record beside them, and remembers the build.
func (j *job) handOver(ctx context.Context, files map[string]string) (*BuildResult, error) {
	start := time.Now()
	rec, err := j.record(ctx)
	if err != nil {
		return nil, err
	}
	data, err := rec.Marshal()
	if err != nil {
		return nil, err
	}
	known := knownBuild{
		Run: j.run.ID(), Accel: string(j.decision.Accel), Verdicts: showVerdicts(j.verdicts), Parts: j.parts,
	}
	if known.Record, err = j.store.PutBytes(data); err != nil {
		return nil, err
	}
	for _, a := range j.loaded.Spec.Artifacts {
		out := j.stages[a.Stage].output(a.Path)
		known.Artifacts = append(known.Artifacts, knownFile{a.Name, out.Digest, out.Size, out.Mode})
	}
	for _, s := range inOrder(j.loaded.Spec.Stages) {
		known.Logs = append(known.Logs, knownFile{Name: logName(s.Name), Digest: j.stages[s.Name].Log})
	}
	res, err := j.deliver(ctx, &known, false)
	if err != nil {
		return nil, err
	}
	res.Parts = append(res.Parts, Part{Phase: PhaseHandover, Took: time.Since(start)})
	return res, j.store.Bind("builds", j.ids.build, known)
}

// finish notes how the run ended. A kept guest is ended by Ctrl-C, but its build had failed before.
func (j *job) finish(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return j.run.Finish(vm.Passed, nil)
	case ctx.Err() != nil && !j.kept:
		return j.run.Finish(vm.Cancelled, err)
	}
	return j.run.Finish(vm.Failed, err)
}

// followPhases keeps run.json true while events go by, and the run's log complete.
func (h *house) followPhases(run *vm.Run) {
	h.confined.log = run.Log()
	next := h.Report
	h.Report = func(e Event) {
		at := e.Time.UTC().Format(time.RFC3339)
		switch e.Kind {
		case PhaseStart:
			_ = run.Phase(string(e.Phase), e.Name) // a note for onlookers; the run does not depend on it
			fmt.Fprintf(run.Log(), "%s %s: %s\n", at, joined(string(e.Phase), e.Name), e.Text)
		case PhaseEnd:
			took := e.Took.Round(time.Millisecond)
			fmt.Fprintf(run.Log(), "%s %s: %s (%s)\n", at, joined(string(e.Phase), e.Name), e.Text, took)
		case Note, Warning:
			fmt.Fprintf(run.Log(), "%s %s\n", at, e.Text)
		case LogLine, Progress: // have files of their own, or none
		}
		if next != nil {
			next(e)
		}
	}
}
