package pipeline

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// An exported stage is a plain tar archive (POSIX.1-2001, pax where names are long): first its manifest and its log,
// then the outputs as the stage left them in $OUT. Its bytes follow from the stage alone: no times, no owners.
const (
	manifestName = "belljar-stage.json"
	logMember    = "belljar-stage.log"
	manifestMost = 16 << 20 // bytes; a real one has some tens of thousands
)

// manifestFormat is the version of the manifest: it grows when an older program could not import a newer archive.
const manifestFormat = 1

// stageManifest says what an exported stage is. The results of the stages that it needs come along without their
// outputs: the record of a build names them.
type stageManifest struct {
	Format   int          `json:"format"`
	Identity string       `json:"identity"`
	Stage    string       `json:"stage"` // SPEC#STAGE
	Guest    string       `json:"guest"`
	Spec     string       `json:"spec_sha256"` // specs.Loaded.Digest
	Lock     string       `json:"lock_sha256"` // specs.Lock.Digest
	Result   *stageResult `json:"result"`
	Needs    []neededPart `json:"needs"`
}

type neededPart struct {
	Identity string       `json:"identity"`
	Result   *stageResult `json:"result"`
}

// encode is the manifest's one form.
func (m *stageManifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// writeOutputs writes a stage's outputs into an archive.
func (h *house) writeOutputs(tw *tar.Writer, outputs []stageOutput) error {
	for _, o := range outputs {
		r, err := h.store.Open(o.Digest)
		if err != nil {
			return err
		}
		if specs.IsFolder(o.Path) {
			err = writeFolder(tw, o.Path, r)
		} else {
			err = writeMember(tw, &tar.Header{Typeflag: tar.TypeReg, Name: o.Path, Mode: int64(o.Mode), Size: o.Size}, r)
		}
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

func writeMember(tw *tar.Writer, h *tar.Header, content io.Reader) error {
	if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	_, err := io.Copy(tw, content)
	return err
}

// writeFolder lays the members of a folder's own archive under its path; and the folder itself, which stands first in it.
func writeFolder(tw *tar.Writer, folder string, content io.Reader) error {
	tr := tar.NewReader(content)
	for {
		m, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, content) // its digest is proven at its end
			return err
		}
		if err != nil {
			return err
		}
		h := plainHeader(m)
		h.Name = folder + strings.TrimPrefix(m.Name, "./")
		if m.Typeflag == tar.TypeLink {
			h.Linkname = folder + m.Linkname
		}
		if err := writeMember(tw, h, tr); err != nil {
			return err
		}
	}
}

// plainHeader has what of a member counts, so that an archive that is taken apart can be put together again, byte for
// byte.
func plainHeader(m *tar.Header) *tar.Header {
	return &tar.Header{Typeflag: m.Typeflag, Name: m.Name, Linkname: m.Linkname, Mode: m.Mode, Size: m.Size}
}

// stageReader reads an exported stage.
type stageReader struct {
	tr   *tar.Reader
	next *tar.Header // read and not yet used
}

func (r *stageReader) peek() (*tar.Header, error) {
	if r.next != nil {
		return r.next, nil
	}
	h, err := r.tr.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, damagedImport("%w", err)
	}
	r.next = h
	return h, nil
}

// member reads the next member, which must be a file of that name.
func (r *stageReader) member(name string, most int64) (*tar.Header, error) {
	h, err := r.peek()
	switch {
	case err != nil:
		return nil, err
	case h == nil:
		return nil, damagedImport("it ends before %s", name)
	case h.Name != name || h.Typeflag != tar.TypeReg:
		return nil, damagedImport("it has %q where %s should be", h.Name, name)
	case most > 0 && h.Size > most:
		return nil, damagedImport("%s is too long: %d bytes, at most %d", name, h.Size, most)
	}
	r.next = nil
	return h, nil
}

// folder puts the archive of a folder together again from its members here.
func (r *stageReader) folder(w io.Writer, folder string) error {
	tw := tar.NewWriter(w)
	for first := true; ; first = false {
		h, err := r.peek()
		if err != nil {
			return err
		}
		if first && (h == nil || h.Name != folder || h.Typeflag != tar.TypeDir) {
			return damagedImport("the folder %s is missing", folder)
		}
		if h == nil || !strings.HasPrefix(h.Name, folder) {
			return tw.Close()
		}
		r.next = nil
		m := plainHeader(h)
		if m.Name = strings.TrimPrefix(h.Name, folder); first {
			m.Name = "./"
		}
		m.Linkname = h.Linkname
		if h.Typeflag == tar.TypeLink {
			m.Linkname = strings.TrimPrefix(h.Linkname, folder)
		}
		if clean := path.Clean(m.Name); clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(clean) {
			return damagedImport("%q leads out of the folder %s", h.Name, folder)
		}
		if err := writeMember(tw, m, r.tr); err != nil {
			return err
		}
	}
}

func damagedImport(format string, args ...any) *fault.Error {
	return fault.New(fault.Input, "import stage", format, args...).
		WithRemedy("export it again: belljar stage export SPEC#STAGE --format tar")
}

// digests lists the objects that a result names.
func (r *stageResult) digests() []store.Digest {
	all := []store.Digest{r.Log}
	for _, o := range r.Outputs {
		all = append(all, o.Digest)
	}
	return all
}
