package pipeline

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

var identitySyntax = regexp.MustCompile(specs.SHA256Pattern)

// StageImport takes an exported stage back, so that it counts as built. Its outputs are verified; that they came of what
// its identity stands for nobody can see in them: that is the word of whoever exported it, and records say so.
func StageImport(ctx context.Context, cfg Config, file string) (*StageInfo, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	release, err := h.store.Pin()
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.New(fault.Input, "import stage", "%w", err)
	}
	defer f.Close()
	r := &stageReader{tr: tar.NewReader(f)}
	m, sum, err := r.manifest()
	if err != nil {
		return nil, err
	}
	m.Result.Imported = &Import{File: filepath.Base(file), SHA256: string(sum), When: time.Now().UTC().Truncate(time.Second)}
	known, whole, err := h.knownStage(m.Identity)
	if err != nil {
		return nil, err
	}
	if whole {
		if err := m.agrees(known); err != nil {
			return nil, err
		}
	}
	if err := h.takeOutputs(ctx, r, m.Result); err != nil {
		return nil, err
	}
	if !whole { // what was made here needs nobody's word
		if err := h.bindImported(m); err != nil {
			return nil, err
		}
		known = m.Result
	}
	info := known.info(m.Identity)
	return &info, nil
}

// bindImported makes the stage known, and of those that it needs what is not known yet.
func (h *house) bindImported(m *stageManifest) error {
	for _, need := range m.Needs {
		known, _, err := h.knownStage(need.Identity)
		if err != nil {
			return err
		}
		if known != nil {
			continue
		}
		need.Result.Imported = m.Result.Imported
		if err := h.store.Bind("stages", need.Identity, need.Result); err != nil {
			return err
		}
	}
	if err := h.store.Bind("stages", m.Identity, m.Result); err != nil {
		return err
	}
	return h.store.Bind(lastKind, m.Result.Of.key(), m.Identity)
}

// manifest reads what stands first in the archive.
func (r *stageReader) manifest() (*stageManifest, store.Digest, error) {
	if _, err := r.member(manifestName, manifestMost); err != nil {
		return nil, "", err
	}
	data, err := io.ReadAll(r.tr)
	if err != nil {
		return nil, "", damagedImport("%s: %w", manifestName, err)
	}
	var m stageManifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, "", damagedImport("%s: %w", manifestName, err)
	}
	if m.Format != manifestFormat {
		return nil, "", fault.New(fault.Input, "import stage", "it is of format %d, and this program reads %d", m.Format, manifestFormat).
			WithRemedy("import it with the belljar that exported it, or a newer one")
	}
	for _, p := range append(m.Needs, neededPart{m.Identity, m.Result}) {
		if err := p.check(); err != nil {
			return nil, "", err
		}
	}
	return &m, digestOf(data), nil
}

// check sees to it that nothing of a manifest is used that could not have been written by a build.
func (p *neededPart) check() error {
	switch {
	case !identitySyntax.MatchString(p.Identity):
		return damagedImport("%s: the identity %q is no SHA-256", manifestName, p.Identity)
	case p.Result == nil || len(p.Result.Outputs) == 0:
		return damagedImport("%s: the stage %s has no outputs", manifestName, short(p.Identity))
	}
	for _, d := range p.Result.digests() {
		if _, err := store.ParseDigest(string(d)); err != nil {
			return damagedImport("%s: %w", manifestName, err)
		}
	}
	for _, o := range p.Result.Outputs {
		if !specs.IsOutput(o.Path) {
			return damagedImport("%s: %q is no output's path", manifestName, o.Path)
		}
	}
	return nil
}

// agrees refuses a stage that was made here of other bytes: one of the two is not what its identity says.
func (m *stageManifest) agrees(here *stageResult) error {
	for _, o := range m.Result.Outputs {
		if own := here.output(o.Path); own == nil || own.Digest != o.Digest {
			return fault.New(fault.Input, "import stage", "%s of the identity %s is known here, and its output %s is of other bytes",
				m.Stage, short(m.Identity), o.Path).
				WithRemedy("find out which is right: belljar build SPEC --no-cache=%s", m.Result.Of.Stage)
		}
	}
	return nil
}

// takeOutputs takes log and outputs into the store, each only if it is what the manifest says.
func (h *house) takeOutputs(ctx context.Context, r *stageReader, res *stageResult) error {
	if _, err := r.member(logMember, 1<<30); err != nil {
		return err
	}
	if err := h.take(ctx, logMember, r.tr, res.Log); err != nil {
		return err
	}
	for _, o := range res.Outputs {
		if specs.IsFolder(o.Path) {
			if err := h.takeFolder(ctx, r, o); err != nil {
				return err
			}
			continue
		}
		head, err := r.member(o.Path, 0)
		if err != nil {
			return err
		}
		if head.Size != o.Size || uint32(head.Mode) != o.Mode {
			return damagedImport("%s is of %d bytes and mode %o, and the manifest says %d and %o", o.Path, head.Size, head.Mode, o.Size, o.Mode)
		}
		if err := h.take(ctx, o.Path, r.tr, o.Digest); err != nil {
			return err
		}
	}
	left, err := r.peek()
	if err == nil && left != nil {
		return damagedImport("it has %q, which is no output", left.Name)
	}
	return err
}

func (h *house) take(ctx context.Context, name string, r io.Reader, want store.Digest) error {
	_, _, err := h.store.Put(ctx, r, want, -1)
	return importFault(name, err)
}

// takeFolder puts a folder's archive together again while the store takes it in.
func (h *house) takeFolder(ctx context.Context, r *stageReader, o stageOutput) error {
	from, to := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := r.folder(to, o.Path)
		to.CloseWithError(err)
		made <- err
	}()
	_, _, err := h.store.Put(ctx, from, o.Digest, -1)
	from.CloseWithError(errors.New("not wanted any more"))
	if broke := <-made; broke != nil && fault.KindOf(broke) != fault.Unknown {
		return broke
	}
	return importFault(o.Path, err)
}

// importFault tells whose bytes are wrong: not the store's.
func importFault(name string, err error) error {
	if fault.KindOf(err) == fault.Input || errors.Is(err, io.ErrUnexpectedEOF) {
		return damagedImport("%s: %w", name, err)
	}
	return err
}
