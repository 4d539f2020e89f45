package pipeline

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// The formats of an exported stage.
const (
	StageTar = "tar" // plain: 'belljar stage import' takes it back
	StageOCI = "oci" // an image layout in a tar, for podman, docker and skopeo
)

// StageFormats are the values of StageExportOptions.Format.
var StageFormats = []string{StageTar, StageOCI}

// StageExportOptions are those of 'belljar stage export'.
type StageExportOptions struct {
	Stage  string // SPEC#STAGE
	Guest  string // empty: the spec's first
	Lock   string // path of the spec's lock; empty: its own
	Format string
	Out    string // path; empty: STAGE.tar or STAGE.oci.tar in the current folder
	Force  bool   // replace a file that is there
}

// StageExportResult is what exporting came to.
type StageExportResult struct {
	StageInfo
	Format string `json:"format"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"` // of the file
}

// StageExport writes what a stage made, with its identity, to a file for others to use. The same stage gives the same
// bytes.
func StageExport(ctx context.Context, cfg Config, o StageExportOptions) (_ *StageExportResult, err error) {
	spec, name, ok := cutLast(o.Stage, "#")
	if !ok || spec == "" || name == "" {
		return nil, fault.New(fault.Usage, "", "%q is no stage of a spec", o.Stage).WithRemedy("write SPEC#STAGE")
	}
	h, p, release, err := begin(cfg, spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := h.newJob(ctx, p, BuildOptions{Spec: spec}, time.Now())
	if err != nil {
		return nil, err
	}
	n, known, err := j.exportable(name)
	if err != nil {
		return nil, err
	}
	file := cmp.Or(o.Out, name+map[string]string{StageTar: ".tar", StageOCI: ".oci.tar"}[o.Format])
	if _, err := os.Lstat(file); err == nil && !o.Force {
		return nil, fault.New(fault.Input, "export to "+file, "it is there already").
			WithRemedy("replace it with --force, or name another file with --output")
	}
	manifest, err := n.manifest(known)
	if err != nil {
		return nil, err
	}
	res := &StageExportResult{StageInfo: known.info(n.id), Format: o.Format, Path: file}
	err = atomicfile.FileFunc(file, 0o644, func(f *os.File) error {
		write := h.writeStageTar
		if o.Format == StageOCI {
			write = h.writeStageOCI
		}
		if err := write(f, manifest); err != nil {
			return err
		}
		x := &export{}
		err := x.measure(ctx, f)
		res.SHA256, res.Bytes = x.res.SHA256, x.res.Size
		return err
	})
	if _, ok := errors.AsType[*fs.PathError](err); ok && fault.KindOf(err) == fault.Unknown {
		return nil, fault.New(fault.Host, "export to "+file, "%w", err).WithRemedy("name a file in a folder that you may write")
	}
	return res, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// exportable finds a stage of the asked spec, and what it made.
func (j *job) exportable(name string) (*node, *stageResult, error) {
	j.opts.Rerun = []string{name} // for its check of names alone
	if err := j.checkRerun(); err != nil {
		return nil, nil, fault.New(fault.Usage, "", "the spec %s has no stage %q", j.asked.loaded.Spec.Name, name).
			WithRemedy("%s", fault.Chain(err)[0].Remedy)
	}
	n := j.stage(name)
	known, whole, err := j.knownStage(n.id)
	if err == nil && !whole {
		err = fault.New(fault.Input, "export stage", "stage %s has not been built in %s", name, n.guest.Name).
			WithRemedy("run: belljar build %s --guest %s", j.opts.Spec, n.guest.Name)
	}
	return n, known, err
}

// manifest says what the stage is, and what is known of all that it needs.
func (n *node) manifest(known *stageResult) (*stageManifest, error) {
	m := &stageManifest{
		Format: manifestFormat, Identity: n.id, Stage: n.of().String(), Guest: n.guest.Name,
		Spec: n.lock.Spec.Digest, Lock: n.lock.Digest(), Result: known, Needs: []neededPart{},
	}
	seen := map[string]bool{}
	var visit func(n *node) error
	visit = func(n *node) error {
		for _, need := range n.needs {
			if seen[need.id] {
				continue
			}
			seen[need.id] = true
			if err := visit(need); err != nil {
				return err
			}
			known, _, err := n.knownStage(need.id)
			if err != nil {
				return err
			}
			if known != nil {
				m.Needs = append(m.Needs, neededPart{need.id, known})
			}
		}
		return nil
	}
	return m, visit(n)
}

// writeStageTar writes the archive that import takes back.
func (h *house) writeStageTar(w *os.File, m *stageManifest) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	log, err := h.store.ReadAll(m.Result.Log)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte
	}{{manifestName, data}, {logMember, log}} {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data))}
		if err := writeMember(tw, head, bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	if err := h.writeOutputs(tw, m.Result.Outputs); err != nil {
		return err
	}
	return tw.Close()
}

// refName is how an exported stage is called where images have names: the last element of its spec, and its guest.
func (m *stageManifest) refName() string {
	return path.Base(m.Result.Of.Spec) + "-" + m.Result.Of.Stage + ":" + m.Guest
}

// sizeOf is the length of what write writes.
func sizeOf(write func(io.Writer) error) (int64, error) {
	c := &counter{w: io.Discard}
	err := write(c)
	return c.n, err
}
