package verify

import (
	"encoding/json"
	"time"
)

// The type URIs of a record. BuildType names the meaning of Belljar's parameters: it changes when they do.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/provenance/v1"
	BuildType     = "https://github.com/belljar/belljar/build/v1"
	BuilderID     = "https://github.com/belljar/belljar"
)

// Record is an in-toto Statement v1 about the artifacts of one build.
type Record struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"` // the artifacts, sorted by name
	PredicateType string     `json:"predicateType"`
	Predicate     Predicate  `json:"predicate"`
}

// Predicate is SLSA provenance v1. The two fields whose names have an underscore are extensions as its parsing rules
// ask for: without them the others mean the same.
type Predicate struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
	BuildEvidence   BuildEvidence   `json:"belljar_build"`
	RunEvidence     RunEvidence     `json:"belljar_run"`
}

// Resource is an in-toto ResourceDescriptor v1, as far as Belljar uses one.
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      Digest            `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Digest is an in-toto DigestSet with the one algorithm that Belljar uses: 64 lower-case hex digits.
type Digest struct {
	SHA256 string `json:"sha256"`
}

// BuildDefinition is all that a rebuilder needs to do the same again.
type BuildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   ExternalParameters `json:"externalParameters"`
	InternalParameters   InternalParameters `json:"internalParameters"`
	ResolvedDependencies []Resource         `json:"resolvedDependencies"` // sorted by name, then URI, then digest
}

// ExternalParameters are what the user chose.
type ExternalParameters struct {
	Spec  Resource `json:"spec"`
	Guest string   `json:"guest"`
}

// InternalParameters are what Belljar fixed: the locks and the machine that the guest sees.
type InternalParameters struct {
	Lock        Resource   `json:"lock"`
	NeededLocks []Resource `json:"neededLocks,omitempty"` // of the specs whose stages are needed, sorted by name
	Machine     Machine    `json:"machine"`
}

// Machine is what the guest sees of its machine. How it was run (accelerator, QEMU) must not change a byte of the
// result and therefore stands in RunEvidence.
type Machine struct {
	Arch    string    `json:"arch"`    // x86_64 or i686
	Type    string    `json:"type"`    // versioned machine type
	CPU     string    `json:"cpu"`     // named CPU model
	CPUs    int       `json:"cpus"`    // count
	Memory  int64     `json:"memory"`  // bytes
	Clock   time.Time `json:"clock"`   // at power-on
	Network string    `json:"network"` // "none": the guest has no network card
}

// RunDetails says which run made the subjects.
type RunDetails struct {
	Builder    Builder    `json:"builder"`
	Metadata   Metadata   `json:"metadata"`
	Byproducts []Resource `json:"byproducts"` // logs, sorted by name
}

// Builder is Belljar itself; Version has the keys belljar and qemu.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// Metadata names the run and its time.
type Metadata struct {
	InvocationID string    `json:"invocationId"`
	StartedOn    time.Time `json:"startedOn"`
	FinishedOn   time.Time `json:"finishedOn"`
}

// BuildEvidence is Belljar's own part of what every rebuilder must arrive at.
type BuildEvidence struct {
	Image        []Resource `json:"image"`                  // the guest's root and root hash, kernel and initramfs, sorted by name
	NeededImages []Resource `json:"neededImages,omitempty"` // those of needed specs, each name after 'SPEC: '
	Agent        Resource   `json:"agent"`                  // the program that ran the stages
	Stages       []Stage    `json:"stages"`
}

// Stage is one stage: what may influence it, as one digest, and what it made. In the order of the build. A stage of
// another spec that was needed is named SPEC#STAGE.
type Stage struct {
	Name     string     `json:"name"`
	Identity string     `json:"identity"`
	Outputs  []Resource `json:"outputs"` // sorted by name
}

// RunEvidence is what this one run saw. It differs between hosts and between runs.
type RunEvidence struct {
	Host        Host            `json:"host"`
	Backend     Backend         `json:"backend"`
	Accel       Accel           `json:"accelerator"`
	Confinement []string        `json:"confinement,omitempty"` // what kept the stages' QEMU from the host; absent if none ran
	Seal        json.RawMessage `json:"seal"`                  // the agent's own words on what it found when it looked for a way out
	Stages      []StageRun      `json:"stages"`
	Smoke       []Smoke         `json:"smoke"`
	Timing      []Timing        `json:"timing"` // in the order of the work
}

// Host is the machine that Belljar ran on.
type Host struct {
	OS     string `json:"os"`               // GOOS
	Arch   string `json:"arch"`             // GOARCH
	CPUs   int    `json:"cpus"`             // count
	Distro string `json:"distro,omitempty"` // PRETTY_NAME of os-release(5)
	Kernel string `json:"kernel,omitempty"` // uname -r
}

// Backend is what ran the machines. It holds no address and no name: records are handed on.
type Backend struct {
	Name      string `json:"name"`                // qemu: processes on the host above; libvirt: domains of a libvirtd
	Version   string `json:"version,omitempty"`   // of libvirt
	Transport string `json:"transport,omitempty"` // how libvirt was reached: unix, tcp or ssh
	Arch      string `json:"arch,omitempty"`      // of libvirt's host, as uname -m has it
	CPUs      int    `json:"cpus,omitempty"`      // of libvirt's host: count
}

// Accel is the accelerator of the build's guest and the reason for it.
type Accel struct {
	Name   string `json:"name"` // kvm or tcg
	Reason string `json:"reason"`
}

// StageRun says whether a stage ran or came from the cache, how its guest came to life, and how long it took (when it
// ran).
type StageRun struct {
	Name     string `json:"name"`
	Cached   bool   `json:"cached"`
	Imported string `json:"imported,omitempty"` // from which file it was taken in, on the word of whoever exported it
	Start    string `json:"start,omitempty"`    // from power-on or from a saved state
	WallMS   int64  `json:"wallMs"`
	Usage    Usage  `json:"usage,omitzero"`

	Programs *Programs `json:"programs,omitempty"`
}

// Usage is what all processes of a stage took together, counted by the guest's kernel.
type Usage struct {
	UserMS   int64 `json:"userMs"`   // processor time
	SystemMS int64 `json:"systemMs"` // processor time of the kernel on their behalf
	Memory   int64 `json:"memory"`   // most bytes that programs held at once, as seen once a second; 0: not known
	Largest  int64 `json:"largest"`  // bytes of memory, of the largest process
	Written  int64 `json:"written"`  // bytes to disks
}

// Smoke is one verdict with its evidence. A record is only written for artifacts that passed, but has the field.
type Smoke struct {
	Name        string         `json:"name"`
	Artifact    string         `json:"artifact"` // name of a subject
	SHA256      string         `json:"sha256"`   // of the bytes that were booted
	Machine     string         `json:"machine"`  // versioned machine type
	CPU         string         `json:"cpu"`
	Memory      int64          `json:"memory"` // bytes
	Accel       string         `json:"accelerator"`
	Pass        bool           `json:"pass"`
	Reason      string         `json:"reason"`
	Matches     []ConsoleMatch `json:"matches"`
	TookMS      int64          `json:"tookMs"`
	ConsoleTail string         `json:"consoleTail"`
	CommandLine string         `json:"commandLine"`
}

// ConsoleMatch is a line that an expectation was met by, and when it came after power-on.
type ConsoleMatch struct {
	Pattern string `json:"pattern"`
	Line    string `json:"line"`
	AtMS    int64  `json:"atMs"`
}

// Timing is how long a part of the run took.
type Timing struct {
	Part   string `json:"part"`
	WallMS int64  `json:"wallMs"`
}
