package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// stageResult is what is remembered of a stage: its outputs, and what the agent saw and logged.
type stageResult struct {
	Outputs []stageOutput
	Seal    json.RawMessage // wire.Seal
	Log     store.Digest
	Wall    time.Duration
	Accel   string
	Start   string // how its guest came to life
	cached  bool
}

type stageOutput struct {
	Path   string
	Digest store.Digest
	Size   int64
	Mode   uint32
}

func (r *stageResult) output(path string) *stageOutput {
	for i := range r.Outputs {
		if r.Outputs[i].Path == path {
			return &r.Outputs[i]
		}
	}
	return nil
}

// attempts is how often a guest's work is begun: host and guest faults are retried once, a build's own failure never.
const attempts = 2

// retried does work that a hanging guest or a stumbling host may spoil once.
func (h *house) retried(ctx context.Context, p Phase, name string, work func(attempt int) error) error {
	for attempt := 1; ; attempt++ {
		err := work(attempt)
		if err == nil || attempt == attempts || ctx.Err() != nil || !fault.KindOf(err).Retryable() || h.once {
			return err
		}
		h.report(Event{Kind: Warning, Phase: p, Name: name, Text: fmt.Sprintf("%v; trying once more", err)})
	}
}

// runStages runs what is not known yet, each stage in a fresh guest.
func (j *job) runStages(ctx context.Context) error {
	for _, s := range inOrder(j.loaded.Spec.Stages) {
		if !j.opts.NoCache {
			known, err := j.knownStage(s.Name)
			if err != nil {
				return err
			}
			if known != nil {
				j.stages[s.Name] = known
				text := "stage " + s.Name + ": nothing changed, answered from the cache"
				j.report(Event{Kind: Note, Phase: PhaseStage, Name: s.Name, Text: text})
				continue
			}
		}
		if err := j.runStage(ctx, &s); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) knownStage(name string) (*stageResult, error) {
	var known stageResult
	ok, err := j.store.Lookup("stages", j.ids.stages[name], &known)
	if !ok || err != nil {
		return nil, err
	}
	if !j.store.Has(known.Log) {
		return nil, nil
	}
	for _, o := range known.Outputs {
		if !j.store.Has(o.Digest) {
			return nil, nil
		}
	}
	known.cached = true
	return &known, nil
}

// numbered keeps the folders of several attempts apart.
func numbered(name string, attempt int) string {
	if attempt == 1 {
		return name
	}
	return name + "-" + strconv.Itoa(attempt)
}

func (j *job) runStage(ctx context.Context, s *specs.Stage) error {
	err := j.retried(ctx, PhaseStage, s.Name, func(attempt int) error {
		res, err := j.tryStage(ctx, s, attempt)
		j.stages[s.Name] = res
		return err
	})
	if err != nil {
		return err
	}
	return j.store.Bind("stages", j.ids.stages[s.Name], j.stages[s.Name])
}

func (j *job) tryStage(ctx context.Context, s *specs.Stage, attempt int) (res *stageResult, err error) {
	dir, err := j.run.Dir(numbered("stage-"+s.Name, attempt))
	if err != nil {
		return nil, err
	}
	disks := stageDisks(dir)
	defer func() { err = errors.Join(err, disks.remove()) }()
	if attempt > 1 {
		j.opts.Cold = true // whatever it was that went wrong, it is not to be carried over
	}
	var g *booted
	part, err := j.phase(PhaseBoot, s.Name, "a guest for stage "+s.Name, func() (string, error) {
		g, err = j.bootStage(ctx, s, dir, disks)
		return g.came(), err
	})
	j.parts = append(j.parts, part)
	if err != nil {
		return nil, err
	}
	// Once the guest is gone, all that its kernel had to say of the root has been read.
	defer func() { err = j.damagedImage(ctx, g.corrupted(errors.Join(err, g.Close()))) }()

	part, err = j.phase(PhaseStage, s.Name, "stage "+s.Name, func() (string, error) {
		res, err = j.inGuest(ctx, s, g, dir)
		return "its outputs are hashed on both sides", err
	})
	j.parts = append(j.parts, part)
	if err != nil {
		j.keep(ctx, j.run, g, PhaseStage, err)
	}
	return res, err
}

// disks are a stage's own: made for it, and gone after it.
type disks struct{ inputs, scratch, outputs string }

func stageDisks(dir string) disks {
	return disks{filepath.Join(dir, "inputs.img"), filepath.Join(dir, "scratch.img"), filepath.Join(dir, "outputs.img")}
}

func (d disks) remove() error {
	var all error
	for _, p := range []string{d.inputs, d.scratch, d.outputs} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// bootStage makes a stage's disks and boots a guest with them: from a saved state if there is one.
func (j *job) bootStage(ctx context.Context, s *specs.Stage, dir string, d disks) (*booted, error) {
	if err := j.makeInputs(ctx, s, d.inputs); err != nil {
		return nil, err
	}
	_ = os.Remove(d.scratch)
	if err := image.Scratch(d.scratch, int64(j.guest.Scratch)); err != nil {
		return nil, err
	}
	if err := sparse(d.outputs, outputsSize); err != nil {
		return nil, err
	}
	m := machine(j.guest, j.locked)
	m.Name, m.Accel = filepath.Base(dir), j.decision.Accel
	// The root is not read through here: the guest's kernel holds each block that it reads against the root hash.
	m.Boot.Cmdline = initramfs.Verity(j.image.RootHash)
	m.Disks = []vm.Disk{
		{Serial: diskRoot, Path: j.store.Path(j.image.Root), Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: diskInputs, Path: d.inputs, Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: diskScratch, Path: d.scratch, Bus: vm.BusVirtio},
		{Serial: diskOutputs, Path: d.outputs, Bus: vm.BusVirtio},
	}
	g, err := j.bootFast(ctx, dir, m, s.Name)
	return g, j.damagedImage(ctx, err)
}

// makeInputs writes the input disk: sources/NAME and, for each stage that s needs, stages/NAME.
func (j *job) makeInputs(ctx context.Context, s *specs.Stage, path string) (err error) {
	trees, err := j.inputTrees(j.lock)
	if err != nil {
		return err
	}
	for _, need := range s.Needs {
		t := image.Tree{Name: need, Folder: "stages"}
		for _, o := range j.stages[need].Outputs {
			t.Parts = append(t.Parts, image.Part{
				File: o.Path, Plain: true, Mode: o.Mode,
				Open: func() (io.ReadCloser, error) { return j.store.Open(o.Digest) },
			})
		}
		trees = append(trees, t)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Host, "write input disk", "%w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := image.WriteTree(ctx, f, trees, image.TreeOptions{Clock: j.locked.Clock, TempDir: filepath.Dir(path)}); err != nil {
		return err
	}
	return j.stretch(f)
}

// stageEnv is the whole environment of a stage.
func stageEnv(s *specs.Stage, g *specs.Guest) map[string]string {
	env := map[string]string{
		"SOURCES": "/build/sources", "STAGES": "/build/stages", "OUT": "/build/out", "HOME": "/build/home",
		"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC",
		"SOURCE_DATE_EPOCH": strconv.FormatInt(g.Clock.Unix(), 10),
	}
	maps.Copy(env, s.Env)
	return env
}

// guestStage is a stage as the agent is told it.
func (j *job) guestStage(s *specs.Stage) wire.Stage {
	st := wire.Stage{
		Name: s.Name, Script: s.Script, Env: stageEnv(s, j.guest), WorkDir: "/build/work", OutDir: "/build/out", Outputs: s.Outputs,
		Timeout: j.pace.Of(time.Duration(s.Timeout)), Silence: j.pace.Of(time.Duration(s.Silence)), Device: diskOutputs,
	}
	for _, src := range j.lock.Sources {
		st.Sources = append(st.Sources, wire.Mount{From: "sources/" + src.Name, To: "/build/sources/" + src.Name})
	}
	for _, need := range s.Needs {
		st.Sources = append(st.Sources, wire.Mount{From: "stages/" + need, To: "/build/stages/" + need})
	}
	return st
}

// inGuest proves the seal, runs the stage and takes its outputs into the store.
func (j *job) inGuest(ctx context.Context, s *specs.Stage, g *booted, dir string) (*stageResult, error) {
	logPath := filepath.Join(dir, "stage.log")
	logFile, err := os.Create(logPath)
	if err != nil {
		return nil, fault.New(fault.Host, "stage log", "%w", err)
	}
	defer logFile.Close()
	log := j.stageLog(logFile, PhaseStage, s.Name)
	seal, err := g.Probe(g.ctx)
	if err != nil {
		return nil, g.explain(err)
	}
	logSeal(log, seal)
	if !seal.Sealed {
		return nil, fault.New(fault.Guest, "seal", "the guest is not sealed: %s", strings.Join(seal.Leaks, "; "))
	}
	res, err := g.Run(g.ctx, j.guestStage(s), log)
	if err != nil {
		return nil, g.explain(err)
	}
	out := &stageResult{Wall: res.Wall, Accel: string(j.decision.Accel), Start: g.from.String()}
	if out.Seal, err = json.Marshal(seal); err != nil {
		return nil, err
	}
	modes := map[string]uint32{}
	for _, f := range res.Files {
		modes[f.Path] = f.Mode
	}
	err = provision.ReadOutputs(ctx, g.disk(diskOutputs), res, func(name string, n int64, r io.Reader) (string, error) {
		digest, _, err := j.store.Put(ctx, r, "", n)
		out.Outputs = append(out.Outputs, stageOutput{Path: name, Digest: digest, Size: n, Mode: modes[name]})
		return string(digest), err
	})
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(logPath) // bounded: the agent keeps head and tail of a flood
	if err != nil {
		return nil, fault.New(fault.Host, "stage log", "%w", err)
	}
	out.Log, err = j.store.PutBytes(data)
	return out, err
}

// logSeal writes what the probe found at the head of the build's log, as a person would have looked for it.
func logSeal(log func(string), s wire.Seal) {
	log("belljar: probe of the seal")
	for _, l := range strings.Split(strings.TrimRight(s.IPLink, "\n"), "\n") {
		log("ip link: " + l)
	}
	log("interfaces: " + strings.Join(s.Interfaces, " "))
	log(fmt.Sprintf("routes off lo: %d; name lookup: %s; host folders mounted: %d",
		len(s.Routes), s.NameLookup, len(s.Mounts)))
	log(fmt.Sprintf("clock: %s; kernel: %s; cpu: %s", s.Clock.UTC().Format(time.RFC3339), s.Kernel, s.CPU))
}

// stageLog sends a log's lines to its file and to whoever watches.
func (h *house) stageLog(w io.Writer, p Phase, name string) func(string) {
	return func(line string) {
		fmt.Fprintln(w, line)
		h.report(Event{Kind: LogLine, Phase: p, Name: name, Text: line})
	}
}
