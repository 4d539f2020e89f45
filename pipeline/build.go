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
	if err := j.checkRerun(); err != nil {
		return nil, err
	}
	whole, err := j.answerable()
	if err != nil {
		return nil, err
	}
	if whole {
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
	opts     BuildOptions
	run      *vm.Run // nil while only the cache is asked
	started  time.Time
	qemu     string          // version
	agent    string          // digest of the guest-agent
	asked    *jar            // of the spec that is built
	jars     map[string]*jar // by their specs' names
	nodes    []*node         // the graph: each after those that it needs
	id       string          // the build's identity: it follows from specs, locks, agent and emulator alone
	parts    []Part
	verdicts []namedVerdict
}

func (h *house) newJob(ctx context.Context, p *plan, o BuildOptions, started time.Time) (*job, error) {
	_, agent, err := provision.Agent(p.guest.Arch) // all jars are of one guest
	if err != nil {
		return nil, err
	}
	qemu, err := h.backend.Version(ctx, p.guest.Arch)
	if err != nil {
		return nil, err
	}
	h.once, h.keeps = o.Keep, o.Keep
	j := &job{house: h, opts: o, started: started, qemu: qemu, agent: agent, jars: map[string]*jar{}}
	j.asked = j.jar(p)
	j.grow()
	stages := map[string]string{}
	for _, n := range j.nodes {
		stages[n.name()] = n.id
	}
	spec := p.loaded.Spec
	j.id = identity([]any{
		"build", p.lock.Spec.Digest, p.guest.Name, stages, spec.Artifacts, spec.Smoke, qemu, h.Version,
	})
	return j, nil
}

// work does what the cache could not answer.
func (j *job) work(ctx context.Context) (*BuildResult, error) {
	if err := j.recall(); err != nil {
		return nil, err
	}
	if err := j.runStages(ctx); err != nil {
		return nil, err
	}
	if j.opts.Strict {
		if err := j.checkStrict(); err != nil {
			return nil, err
		}
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

// quarantine lays the artifacts into the run's folder, where they stay until they have passed.
func (j *job) quarantine(ctx context.Context) (map[string]string, error) {
	files := map[string]string{}
	for _, a := range j.asked.loaded.Spec.Artifacts {
		out := j.stage(a.Stage).result.output(a.Path)
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
		Run: j.run.ID(), Accel: string(j.asked.decision.Accel), Verdicts: showVerdicts(j.verdicts), Parts: j.parts,
		Ran: j.ran(),
	}
	if known.Record, err = j.store.PutBytes(data); err != nil {
		return nil, err
	}
	for _, a := range j.asked.loaded.Spec.Artifacts {
		out := j.stage(a.Stage).result.output(a.Path)
		known.Artifacts = append(known.Artifacts, knownFile{a.Name, out.Digest, out.Size, out.Mode})
	}
	for _, n := range j.logged() {
		known.Logs = append(known.Logs, knownFile{Name: n.logName(), Digest: n.result.Log})
	}
	res, err := j.deliver(ctx, &known, false)
	if err != nil {
		return nil, err
	}
	res.Parts = append(res.Parts, Part{Phase: PhaseHandover, Took: time.Since(start)})
	return res, j.store.Bind("builds", j.id, known)
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
