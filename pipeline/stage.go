package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
)

// stageResult is what is remembered of a stage: its outputs, and what the agent saw and logged.
type stageResult struct {
	Outputs []stageOutput
	Image   usedImage
	Inputs  stageInputs
	Made    time.Time
	Seal    json.RawMessage // wire.Seal
	Log     store.Digest
	Wall    time.Duration
	Usage   wire.Usage
	Accel   string
	Start   string // how its guest came to life

	Programs *verify.Programs // that ran; nil: not recorded

	Of       stageName // whose it was when it was made
	Imported *Import   `json:",omitempty"` // nil: it was made here
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
	for _, n := range j.toRun() { // before hours are spent on the first, all is there
		if err := n.bring(ctx); err != nil {
			return err
		}
	}
	for _, n := range j.nodes {
		if !n.must {
			n.sayCached()
			continue
		}
		before, _, err := j.knownStage(n.id)
		if err != nil {
			return err
		}
		if err := n.runStage(ctx); err != nil {
			return err
		}
		if before != nil {
			n.compare(before)
		}
	}
	return nil
}

func (n *node) sayCached() {
	text := "stage " + n.name() + ": nothing changed, answered from the cache"
	if n.result != nil && n.result.Imported != nil {
		text += ", where it was imported from " + n.result.Imported.File
	}
	n.noteUsed()
	n.report(Event{Kind: Note, Phase: PhaseStage, Name: n.name(), Text: text})
}

// compare holds what a stage made against what it had made before. Of the same identity it must be the same; if it is
// not, that is said aloud, and the stages that need this one are run again, for what is known of them was made of other
// bytes.
func (n *node) compare(before *stageResult) {
	var differ []string
	for _, o := range n.result.Outputs {
		if was := before.output(o.Path); was == nil || was.Digest != o.Digest || was.Mode != o.Mode {
			differ = append(differ, o.Path)
		}
	}
	if len(differ) == 0 {
		n.report(Event{Kind: Note, Phase: PhaseStage, Name: n.name(), Text: "stage " + n.name() + ": made the same as before, byte for byte"})
		return
	}
	n.report(Event{Kind: Warning, Phase: PhaseStage, Name: n.name(), Text: fmt.Sprintf(
		"stage %s DID NOT MAKE THE SAME as before, though nothing that it is made of changed: %s. It is not reproducible; what needs it is run again",
		n.name(), strings.Join(differ, ", "))})
	for _, m := range n.nodes {
		if slices.Contains(m.needs, n) {
			m.must = true
		}
	}
}

// knownStage looks a stage up: nil if nothing is known of it. Of one that is not whole the store has lost an output or
// the log.
func (h *house) knownStage(id string) (known *stageResult, whole bool, err error) {
	known = new(stageResult)
	ok, err := h.store.Lookup("stages", id, known)
	if !ok || err != nil {
		return nil, false, err
	}
	whole = h.store.Has(known.Log)
	for _, o := range known.Outputs {
		whole = whole && h.store.Has(o.Digest)
	}
	return known, whole, nil
}

// numbered keeps the folders of several attempts apart.
func numbered(name string, attempt int) string {
	if attempt == 1 {
		return name
	}
	return name + "-" + strconv.Itoa(attempt)
}

// runStage runs a stage, its guest being made ready first, and remembers what came of it.
func (n *node) runStage(ctx context.Context) error {
	if err := n.prepare(ctx); err != nil {
		return err
	}
	err := n.retried(ctx, PhaseStage, n.name(), func(attempt int) (err error) {
		n.result, err = n.tryStage(ctx, attempt)
		return err
	})
	if err != nil {
		return err
	}
	n.result.Of, n.result.Inputs, n.result.Made = n.of(), n.inputs(), time.Now().UTC().Truncate(time.Second)
	return n.remember()
}

// remember binds the stage's result to its identity, and that to its name.
func (n *node) remember() error {
	if err := n.store.Bind("stages", n.id, n.result); err != nil {
		return err
	}
	n.noteUsed()
	return n.store.Bind(lastKind, n.lastKey(), n.id)
}

func (n *node) tryStage(ctx context.Context, attempt int) (res *stageResult, err error) {
	dir, err := n.run.Dir(numbered("stage-"+n.fileName(), attempt))
	if err != nil {
		return nil, err
	}
	disks := stageDisks(dir)
	defer func() { err = errors.Join(err, disks.remove()) }()
	if attempt > 1 {
		n.opts.Cold = true // whatever it was that went wrong, it is not to be carried over
	}
	var g *booted
	part, err := n.phase(PhaseBoot, n.name(), "a guest for stage "+n.name(), func() (string, error) {
		g, err = n.bootStage(ctx, dir, disks)
		return g.came(), err
	})
	n.parts = append(n.parts, part)
	if err != nil {
		return nil, err
	}
	// Once the guest is gone, all that its kernel had to say of the root has been read.
	defer func() { err = n.damagedImage(ctx, g.corrupted(errors.Join(err, g.Close()))) }()

	part, err = n.phase(PhaseStage, n.name(), "stage "+n.name(), func() (string, error) {
		res, err = n.inGuest(ctx, g, dir)
		return res.came(), err
	})
	n.parts = append(n.parts, part)
	if err != nil {
		n.keep(ctx, n.run, g, PhaseStage, err)
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
func (n *node) bootStage(ctx context.Context, dir string, d disks) (*booted, error) {
	if err := n.makeInputs(ctx, d.inputs); err != nil {
		return nil, err
	}
	_ = os.Remove(d.scratch)
	if err := image.Scratch(d.scratch, int64(n.guest.Scratch)); err != nil {
		return nil, err
	}
	if err := sparse(d.outputs, outputsSize); err != nil {
		return nil, err
	}
	m := machine(n.guest, n.locked)
	m.Name, m.Accel = filepath.Base(dir), n.decision.Accel
	m.Memory = stageMemory(n.stage, n.guest)
	// The root is not read through here: the guest's kernel holds each block that it reads against the root hash.
	m.Boot.Cmdline = initramfs.Verity(n.image.RootHash)
	m.Disks = []vm.Disk{
		{Serial: diskRoot, Path: n.store.Path(n.image.Root), Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: diskInputs, Path: d.inputs, Bus: vm.BusVirtio, ReadOnly: true},
		{Serial: diskScratch, Path: d.scratch, Bus: vm.BusVirtio},
		{Serial: diskOutputs, Path: d.outputs, Bus: vm.BusVirtio},
	}
	g, err := n.bootFast(ctx, dir, m, n.name())
	return g, n.damagedImage(ctx, err)
}

// makeInputs writes the input disk: sources/NAME and, for each stage that this one needs, stages/NAME.
func (n *node) makeInputs(ctx context.Context, path string) (err error) {
	trees, err := n.inputTrees(n.sources())
	if err != nil {
		return err
	}
	for _, need := range n.needs {
		t := image.Tree{Name: need.stage.Name, Folder: "stages"}
		for _, o := range need.result.Outputs {
			t.Parts = append(t.Parts, n.outputPart(&o))
		}
		trees = append(trees, t)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Host, "write input disk", "%w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := image.WriteTree(ctx, f, trees, image.TreeOptions{Clock: n.locked.Clock, TempDir: filepath.Dir(path)}); err != nil {
		return err
	}
	return n.stretch(f)
}

// outputPart lays an output on an input disk: a file as it is, a folder unpacked from its archive.
func (n *node) outputPart(o *stageOutput) image.Part {
	open := func() (io.ReadCloser, error) { return n.store.Open(o.Digest) }
	if specs.IsFolder(o.Path) {
		folder := strings.TrimSuffix(o.Path, "/")
		return image.Part{File: folder, Into: folder, Keep: true, Open: open}
	}
	return image.Part{File: o.Path, Plain: true, Mode: o.Mode, Open: open}
}

// StageEnv is the whole environment of a stage's script: what every stage has, and what its spec adds.
func StageEnv(s *specs.Stage, g *specs.Guest) map[string]string {
	env := map[string]string{
		"SOURCES": "/build/sources", "STAGES": "/build/stages", "OUT": "/build/out", "HOME": "/build/home",
		"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC",
		"SOURCE_DATE_EPOCH": strconv.FormatInt(g.Clock.Unix(), 10),
	}
	maps.Copy(env, s.Env)
	return env
}

// guestStage is a stage as the agent is told it.
func (n *node) guestStage() wire.Stage {
	s := n.stage
	st := wire.Stage{
		Name: s.Name, Script: s.Script, Env: StageEnv(s, n.guest), WorkDir: "/build/work", OutDir: "/build/out", Outputs: s.Outputs,
		Timeout: n.pace.Of(time.Duration(s.Timeout)), Silence: n.pace.Of(time.Duration(s.Silence)), Device: diskOutputs,
		Record: recordPrograms,
		Tmpfs:  s.Scratch == specs.ScratchTmpfs,
	}
	for _, src := range n.sources() {
		st.Sources = append(st.Sources, wire.Mount{From: "sources/" + src.Name, To: "/build/sources/" + src.Name})
	}
	for _, need := range n.needs {
		st.Sources = append(st.Sources, wire.Mount{From: "stages/" + need.stage.Name, To: "/build/stages/" + need.stage.Name})
	}
	return st
}

// inGuest proves the seal, runs the stage and takes its outputs into the store.
func (n *node) inGuest(ctx context.Context, g *booted, dir string) (*stageResult, error) {
	logFile, err := os.Create(filepath.Join(dir, "stage.log"))
	if err != nil {
		return nil, fault.New(fault.Host, "stage log", "%w", err)
	}
	defer logFile.Close()
	log := n.stageLog(logFile, PhaseStage, n.name())
	seal, err := g.Probe(g.ctx)
	if err != nil {
		return nil, g.explain(err)
	}
	logSeal(log, seal)
	if !seal.Sealed {
		return nil, fault.New(fault.Guest, "seal", "the guest is not sealed: %s", strings.Join(seal.Leaks, "; "))
	}
	var outputs []stageOutput
	taking := provision.TakeOutputs(ctx, g.disk(diskOutputs), g.follow(diskOutputs), n.stage.Outputs, func(o provision.Output, r io.Reader) error {
		digest, size, err := n.store.Put(ctx, r, "", o.Size)
		outputs = append(outputs, stageOutput{Path: o.Path, Digest: digest, Size: size, Mode: o.Mode})
		return err
	})
	res, err := g.RunTaking(g.ctx, n.guestStage(), log, taking)
	if err != nil {
		taking.Stop()
		return nil, g.explain(err)
	}
	if err := taking.End(res.Stream); err != nil {
		return nil, err
	}
	out := &stageResult{
		Image: n.used(), Wall: res.Usage.Wall, Usage: res.Usage, Accel: string(n.decision.Accel), Start: g.from.String(), Outputs: outputs,
	}
	if out.Seal, err = json.Marshal(seal); err != nil {
		return nil, err
	}
	if out.Programs, err = n.programs(ctx, res.Programs); err != nil {
		return nil, err
	}
	// Read through the open file: hours of work are not lost with a name. It is bounded, for the agent keeps head and tail of a flood.
	data, err := io.ReadAll(io.NewSectionReader(logFile, 0, math.MaxInt64))
	if err != nil {
		return nil, fault.New(fault.Host, "stage log", "%w", err)
	}
	out.Log, err = n.store.PutBytes(data)
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
