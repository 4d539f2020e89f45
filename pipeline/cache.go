package pipeline

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
)

// knownBuild is what is remembered of a build that passed.
type knownBuild struct {
	Run       string
	Accel     string
	Artifacts []knownFile
	Logs      []knownFile
	Verdicts  []Verdict
	Parts     []Part
	Record    store.Digest
	Ran       *Ran
}

type knownFile struct {
	Name   string
	Digest store.Digest
	Size   int64
	Mode   uint32
}

// answerable reports whether the cache may answer the build. A strict one has to know which programs ran in each stage.
func (j *job) answerable() (bool, error) {
	if j.rerun() || !j.opts.Strict {
		return !j.rerun(), nil
	}
	if err := j.recall(); err != nil {
		return false, err
	}
	if len(j.toRun()) > 0 {
		return false, nil
	}
	return true, j.checkStrict()
}

// fromCache answers a build that has passed before; nil where it has not, or where the store has lost a part of it.
func (j *job) fromCache(ctx context.Context) (*BuildResult, error) {
	var known knownBuild
	if ok, err := j.store.Lookup("builds", j.id, &known); !ok || err != nil {
		return nil, err
	}
	needed := []store.Digest{known.Record}
	for _, f := range slices.Concat(known.Artifacts, known.Logs) {
		needed = append(needed, f.Digest)
	}
	for _, d := range needed {
		if !j.store.Has(d) {
			return nil, nil
		}
		if err := j.store.Verify(ctx, d); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			j.report(Event{Kind: Warning, Text: err.Error() + "; building it again"})
			return nil, nil
		}
	}
	for _, n := range j.nodes {
		n.sayCached()
	}
	return j.deliver(ctx, &known, true)
}

// logName is the file name of a stage's log, beside the record that names its digest.
func (n *node) logName() string { return "stage-" + n.fileName() + ".log" }

// logged are the stages whose logs are there: that of a stage that need not be run may have gone from the store.
func (j *job) logged() []*node {
	return slices.DeleteFunc(slices.Clone(j.nodes), func(n *node) bool { return !j.store.Has(n.result.Log) })
}

// deliver writes artifacts, logs and record into the out folder: each whole or not at all, the record last.
func (j *job) deliver(ctx context.Context, known *knownBuild, cached bool) (*BuildResult, error) {
	res := &BuildResult{
		Run: known.Run, Spec: j.asked.loaded.Spec.Name, Guest: j.asked.guest.Name, Cached: cached, Accel: known.Accel,
		Verdicts: known.Verdicts, Parts: known.Parts,
		Ran: known.Ran,
	}
	out, err := filepath.Abs(filepath.Join(j.opts.Out, res.Spec, res.Guest))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fault.New(fault.Host, "hand over", "%w", err).
			WithRemedy("give a folder that you may write with --out")
	}
	for _, f := range known.Artifacts {
		path := filepath.Join(out, f.Name)
		if err := j.export(ctx, f.Digest, path, fs.FileMode(f.Mode)); err != nil {
			return nil, err
		}
		res.Artifacts = append(res.Artifacts, Artifact{f.Name, path, string(f.Digest), f.Size})
	}
	for _, f := range known.Logs {
		if err := j.export(ctx, f.Digest, filepath.Join(out, f.Name), 0o644); err != nil {
			return nil, err
		}
	}
	res.Record = filepath.Join(out, "record.json")
	if err := j.export(ctx, known.Record, res.Record, 0o644); err != nil {
		return nil, err
	}
	res.Took = time.Since(j.started)
	return res, nil
}

// export writes an object to a path in one step; its bytes are verified on the way.
func (h *house) export(ctx context.Context, d store.Digest, path string, mode fs.FileMode) error {
	err := atomicfile.WriteFunc(path, mode&0o777|0o600, func(w io.Writer) error {
		return h.store.Stream(ctx, d, func(r io.Reader) error {
			_, err := io.Copy(w, r)
			return err
		})
	})
	if err != nil && fault.KindOf(err) == fault.Unknown && ctx.Err() == nil { // the file's, not the object's
		return fault.New(fault.Host, "write "+path, "%w", err).
			WithRemedy("make room on its disk, or give another folder with --out")
	}
	return err
}
