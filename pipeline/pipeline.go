// Package pipeline knows the order of work, from lock to record, and is the one place that knows all the others.
//
// Each exported function is one command of the program. It reports what it does as events and returns what came of
// it as a plain value; it prints nothing and exits nowhere.
package pipeline

import (
	"time"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

// Config is where things are and who listens: the same for every command.
type Config struct {
	Dir     string   // Belljar's own folder: store, runs, what was learnt of this host
	Mirrors []string // Debian mirrors given by hand; empty: the machine's own, the config file's, the snapshot archive
	Config  string   // path of the config file
	Backend string   // what runs the machines: one of Backends; empty: what the environment and the config file say
	Connect string   // URI of the libvirt that does; empty: the same
	Pool    string   // its storage pool for the machines' files; empty: the same
	Version string   // of this program
	Report  Reporter // may be nil
}

// LockOptions are those of 'belljar lock'.
type LockOptions struct {
	Spec string // shipped name or path
	Path string // of the lock; empty: beside the spec, or for a shipped spec in the current folder

	Update bool // ask the archive even where the lock would do
	DryRun bool // say what would change, and write no lock
}

// LockResult is what locking came to.
type LockResult struct {
	Path     string         `json:"path"`
	Written  bool           `json:"written"`
	DryRun   bool           `json:"dry_run,omitempty"`
	Changes  []string       `json:"changes"` // package by package, against the lock that stood there before
	Details  []specs.Change `json:"details"` // the same, for programs
	Packages int            `json:"packages"`
	Bytes    int64          `json:"bytes"`
}

// FetchOptions are those of 'belljar fetch'.
type FetchOptions struct {
	Spec  string
	Lock  string // path of the lock; empty: the spec's own
	Guest string // empty: all guests of the lock
}

// FetchResult is what fetching came to.
type FetchResult struct {
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Fetched int   `json:"fetched"` // files that were not in the store before
}

// BuildOptions are those of 'belljar build' and, as far as they fit, of 'belljar shell'.
type BuildOptions struct {
	Spec    string
	Lock    string
	Guest   string   // empty: the spec's first
	Out     string   // folder for artifacts and record
	Accel   vm.Accel // auto, kvm or tcg
	Offline bool     // never use the network, even to fill the store
	NoCache bool     // run every stage even if its result is known
	Rerun   []string // run these stages even if their results are known: STAGE or SPEC#STAGE
	Strict  bool     // refuse a build in which a program ran that nothing pins
	Keep    bool     // leave a failed guest running until interrupted
	Cold    bool     // boot every guest from power-on, even if there is a saved state to go on from
}

// BuildResult is what a build came to.
type BuildResult struct {
	Run       string        `json:"run,omitempty"` // id of the run that made it, for what came from the cache too
	Kept      bool          `json:"-"`             // it failed, its guest was kept, and that has been ended since
	Spec      string        `json:"spec"`
	Guest     string        `json:"guest"`
	Cached    bool          `json:"cached"`
	Accel     string        `json:"accel"`
	Artifacts []Artifact    `json:"artifacts"`
	Verdicts  []Verdict     `json:"verdicts"`
	Record    string        `json:"record"`        // path
	Ran       *Ran          `json:"ran,omitempty"` // what its stages ran
	Parts     []Part        `json:"parts"`
	Took      time.Duration `json:"took_ns"`
}

// Artifact is a file that was handed over.
type Artifact struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Verdict is the outcome of one smoke test.
type Verdict struct {
	Test    string        `json:"test"`
	ROM     string        `json:"rom"` // the artifact, or the path of the file that was booted
	Pass    bool          `json:"pass"`
	Text    string        `json:"text"`
	Took    time.Duration `json:"took_ns"`
	Steps   []Outcome     `json:"steps"`
	Screen  string        `json:"screen,omitempty"` // path of a picture of a failed test's screen
	File    string        `json:"file,omitempty"`   // path of the whole verdict, as JSON
	Console string        `json:"-"`                // its last lines
	Spread  *Spread       `json:"spread,omitempty"` // of more than one boot
}

// Outcome is what came of a step of a smoke test.
type Outcome struct {
	Step string        `json:"step"`
	Note string        `json:"note,omitempty"`
	Pass bool          `json:"pass"`
	Line string        `json:"line,omitempty"` // of the console; or what came of what was done
	At   time.Duration `json:"at_ns,omitempty"`
}

// Spread is how much boots of the same ROM differ.
type Spread struct {
	Boots  int          `json:"boots"`
	Passed int          `json:"passed"`
	Steps  []StepSpread `json:"steps"`
}

// StepSpread is when a step was done, in those boots that came so far.
type StepSpread struct {
	Step    string        `json:"step"`
	Came    int           `json:"came"` // in how many boots
	Fastest time.Duration `json:"fastest_ns"`
	Slowest time.Duration `json:"slowest_ns"`
}

// Part is how long one phase took.
type Part struct {
	Phase Phase         `json:"phase"`
	Name  string        `json:"name,omitempty"`
	Took  time.Duration `json:"took_ns"`
}

// Check is one line of 'belljar doctor'.
type Check struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warn or no
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// RunInfo is one line of 'belljar runs'.
type RunInfo struct {
	ID       string    `json:"id"`
	What     string    `json:"what"`
	State    string    `json:"state"` // running, passed, failed, cancelled or dead
	Phase    string    `json:"phase,omitempty"`
	Name     string    `json:"name,omitempty"` // which stage or smoke test, where a phase has several
	Since    time.Time `json:"since,omitzero"` // when the phase began
	Error    string    `json:"error,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Kept     string    `json:"kept,omitempty"` // the machine that it keeps after a failure; 'belljar shell RUN' enters it
	Started  time.Time `json:"started"`
	Stopping time.Time `json:"stopping,omitzero"` // when it was asked to end
	Ended    time.Time `json:"ended,omitzero"`    // of a dead run: its last sign of life
	Swept    time.Time `json:"swept,omitzero"`    // when what a dead run left was cleaned up
}

// CleanOptions are those of 'belljar clean'.
type CleanOptions struct {
	All       bool // live runs excepted, every run folder; otherwise only those older than OlderThan
	Store     bool // empty the store as well
	OlderThan time.Duration
	DryRun    bool
}

// CleanResult is what cleaning came to.
type CleanResult struct {
	Runs    int   `json:"runs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}
