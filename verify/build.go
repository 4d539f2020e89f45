package verify

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Build is what the pipeline knows at the end of a run. NewRecord turns it into a Record.
type Build struct {
	RunID          string
	BelljarVersion string
	QEMUVersion    string
	Started        time.Time
	Finished       time.Time

	Spec    Input  // the spec's file, or its shipped name
	Guest   string // the guest spec's name
	Lock    Input
	Machine Machine // Network may be left empty: it is "none"

	Image []Input // root, its root hash, kernel, initramfs
	// Of the specs whose stages are needed; their stages and what their locks pin are among Stages and Inputs.
	NeededLocks, NeededImages []Input
	Agent                     Input
	Inputs                    []Input // all that the lock pins: packages, sources
	Stages                    []BuildStage
	Artifacts                 []Input

	Host    Host
	Backend Backend
	Accel   Accel

	Confinement []string // what confined the QEMU of the stages, by name

	Seal   json.RawMessage // the agent's seal probe
	Smoke  []Smoke
	Timing []Timing
	Logs   []Input
}

// Input is a file that took part: its name, a URI for it (PackageURL, or where it may be had), its digest and, when
// known, its size.
type Input struct {
	Name   string
	URI    string
	SHA256 string
	Size   int64
}

// BuildStage is a stage as it went.
type BuildStage struct {
	Name     string
	Identity string
	Cached   bool
	Imported string // from which file; empty: it was made here
	Start    string // how its guest came to life
	Wall     time.Duration
	Usage    Usage
	Outputs  []Input
	Programs *Programs // nil: not recorded
}

// NewRecord makes the record of b: sorted, in UTC, with nothing left nil. It does not check it: Validate does.
func NewRecord(b Build) *Record {
	m := b.Machine
	m.Clock = m.Clock.UTC()
	m.Network = cmp.Or(m.Network, "none")
	return &Record{
		Type:          StatementType,
		Subject:       resources(b.Artifacts),
		PredicateType: PredicateType,
		Predicate: Predicate{
			BuildDefinition: BuildDefinition{
				BuildType:          BuildType,
				ExternalParameters: ExternalParameters{Spec: resource(b.Spec), Guest: b.Guest},
				InternalParameters: InternalParameters{
					Lock: resource(b.Lock), NeededLocks: resources(b.NeededLocks), Machine: m,
				},
				ResolvedDependencies: resources(b.Inputs),
			},
			RunDetails: RunDetails{
				Builder: Builder{
					ID: BuilderID, Version: map[string]string{"belljar": b.BelljarVersion, "qemu": b.QEMUVersion},
				},
				Metadata: Metadata{
					InvocationID: b.RunID,
					StartedOn:    b.Started.UTC().Truncate(time.Millisecond),
					FinishedOn:   b.Finished.UTC().Truncate(time.Millisecond),
				},
				Byproducts: resources(b.Logs),
			},
			BuildEvidence: BuildEvidence{
				Image: resources(b.Image), NeededImages: resources(b.NeededImages), Agent: resource(b.Agent), Stages: stages(b.Stages),
			},
			RunEvidence: RunEvidence{
				Host: b.Host, Backend: b.Backend, Accel: b.Accel, Confinement: b.Confinement, Seal: seal(b.Seal),
				Stages: stageRuns(b.Stages),
				Smoke:  smokes(b.Smoke), Timing: append([]Timing{}, b.Timing...),
			},
		},
	}
}

func resource(in Input) Resource {
	r := Resource{Name: in.Name, URI: in.URI, Digest: Digest{SHA256: in.SHA256}}
	if in.Size > 0 {
		r.Annotations = map[string]string{"size": strconv.FormatInt(in.Size, 10)}
	}
	return r
}

func resources(ins []Input) []Resource {
	all := make([]Resource, 0, len(ins))
	for _, in := range ins {
		all = append(all, resource(in))
	}
	slices.SortStableFunc(all, compareResources)
	return all
}

func compareResources(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.URI, b.URI), cmp.Compare(a.Digest.SHA256, b.Digest.SHA256))
}

func stages(ss []BuildStage) []Stage {
	all := make([]Stage, 0, len(ss))
	for _, s := range ss {
		all = append(all, Stage{Name: s.Name, Identity: s.Identity, Outputs: resources(s.Outputs)})
	}
	return all
}

func stageRuns(ss []BuildStage) []StageRun {
	all := make([]StageRun, 0, len(ss))
	for _, s := range ss {
		all = append(all, StageRun{
			Name: s.Name, Cached: s.Cached, Imported: s.Imported, Start: s.Start, WallMS: s.Wall.Milliseconds(), Usage: s.Usage,
			Programs: s.Programs,
		})
	}
	return all
}

func smokes(ss []Smoke) []Smoke {
	all := append([]Smoke{}, ss...)
	for i := range all {
		all[i].Matches = append([]ConsoleMatch{}, all[i].Matches...)
	}
	return all
}

// seal keeps an absent probe apart from an empty one: null stands in the record, and Validate names it.
func seal(probe json.RawMessage) json.RawMessage {
	if len(probe) == 0 {
		return json.RawMessage("null")
	}
	return probe
}

// PackageURL names a Debian package in the form of a package URL (https://github.com/package-url/purl-spec, type deb):
// the same on every mirror. A source package has the architecture "source".
func PackageURL(name, version, arch string) string {
	escape := strings.NewReplacer("%", "%25", "+", "%2B", ":", "%3A")
	return "pkg:deb/debian/" + escape.Replace(name) + "@" + escape.Replace(version) + "?arch=" + arch
}
