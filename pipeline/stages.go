package pipeline

import (
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/specs"
)

// StageInfo is one line of 'belljar stage ls': what is known of a stage that was built, or imported.
type StageInfo struct {
	Identity string        `json:"identity"`
	Stage    string        `json:"stage"` // SPEC#STAGE
	Guest    string        `json:"guest"`
	Outputs  []StageOutput `json:"outputs"`
	Size     int64         `json:"size"` // of all outputs, in bytes
	Made     time.Time     `json:"made,omitzero"`
	Used     time.Time     `json:"used,omitzero"`     // when a build last took it from the cache, or made it
	Missing  bool          `json:"missing,omitempty"` // the store has lost an output or the log
	Imported *Import       `json:"imported,omitempty"`
}

// StageOutput is a file or a folder that a stage made.
type StageOutput struct {
	Path   string `json:"path"` // a folder ends in a slash
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"`
}

// Import says on whose word a stage counts as built.
type Import struct {
	File   string    `json:"file"`   // its name
	SHA256 string    `json:"sha256"` // of the manifest in it
	When   time.Time `json:"when"`
}

// useKind binds an identity to the time at which the stage was last of use.
const useKind = "stageuses"

// noteUsed remembers that a stage was of use. It is a note for people: if it cannot be written, the build goes on.
func (n *node) noteUsed() {
	var last time.Time
	if ok, err := n.store.Lookup(useKind, n.id, &last); err == nil && (!ok || time.Since(last) > useNoted) {
		_ = n.store.Bind(useKind, n.id, time.Now().UTC().Truncate(time.Second))
	}
}

// Stages lists the stages in the store, the one used last at the end: all, or those of a spec, by its name or path.
func Stages(cfg Config, spec string) ([]StageInfo, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	if spec != "" {
		loaded, err := specs.Load(spec)
		if err != nil {
			return nil, err
		}
		spec = loaded.Spec.Name
	}
	ids, err := h.store.List("stages")
	if err != nil {
		return nil, err
	}
	all := []StageInfo{}
	for _, id := range ids {
		known, whole, err := h.knownStage(id)
		if err != nil {
			return nil, err
		}
		if known == nil || spec != "" && known.Of.Spec != spec {
			continue // taken away in between, or another's
		}
		info := known.info(id)
		info.Missing = !whole
		if _, err := h.store.Lookup(useKind, id, &info.Used); err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	slices.SortStableFunc(all, func(a, b StageInfo) int { return a.Used.Compare(b.Used) })
	return all, nil
}

// stageName is whose a stage's result is.
type stageName struct{ Spec, Stage, Guest string }

func (n *node) of() stageName { return stageName{n.loaded.Spec.Name, n.stage.Name, n.guest.Name} }

func (s stageName) String() string { return strings.TrimPrefix(s.Spec+"#"+s.Stage, "#") }

func (r *stageResult) info(id string) StageInfo {
	info := StageInfo{
		Identity: id, Stage: r.Of.String(), Guest: r.Of.Guest, Made: r.Made, Imported: r.Imported, Outputs: []StageOutput{},
	}
	for _, o := range r.Outputs {
		info.Outputs = append(info.Outputs, StageOutput{o.Path, string(o.Digest), o.Size, o.Mode})
		info.Size += o.Size
	}
	return info
}
