package pipeline

import "time"

// EventKind says what an Event tells.
type EventKind string

// The kinds of events. A phase starts, may make progress and log lines, and ends; notes stand between.
const (
	PhaseStart EventKind = "start"    // a phase begins; Text says what it will do
	PhaseEnd   EventKind = "end"      // it ended well; Text says what came of it, Took how long it took
	Progress   EventKind = "progress" // Done of Total, in Unit
	LogLine    EventKind = "log"      // a line that the guest or the build printed
	Note       EventKind = "note"     // something worth saying once
	Warning    EventKind = "warning"  // something that the user should know: a fall to TCG, for one
)

// Phase is a part of the work, in the order in which they come.
type Phase string

// The phases of a build.
const (
	PhaseLock      Phase = "lock"      // archive indexes read, packages resolved
	PhaseFetch     Phase = "fetch"     // the store filled
	PhaseAccel     Phase = "accel"     // KVM proven or not
	PhaseUnpack    Phase = "unpack"    // the image's first layer written by the host
	PhaseConfigure Phase = "configure" // its second layer made in a guest
	PhaseImage     Phase = "image"     // both merged into the root disk
	PhaseExport    Phase = "export"    // an image written in another tool's format
	PhaseBoot      Phase = "boot"      // the guest up, the agent answers
	PhaseStage     Phase = "stage"     // a stage of the build runs
	PhaseSmoke     Phase = "smoke"     // the ROM booted in a second machine
	PhaseHandover  Phase = "handover"  // out of quarantine, record written
)

// Event is one thing that happened, for whoever shows it: a terminal, a pipe, or a program that reads JSON.
type Event struct {
	Time  time.Time     `json:"time"`
	Kind  EventKind     `json:"kind"`
	Phase Phase         `json:"phase,omitempty"`
	Name  string        `json:"name,omitempty"` // which stage or smoke test, where a phase has several
	Text  string        `json:"text,omitempty"`
	Done  int64         `json:"done,omitempty"`
	Total int64         `json:"total,omitempty"`
	Unit  string        `json:"unit,omitempty"` // bytes, packages or files
	Took  time.Duration `json:"took_ns,omitempty"`
}

// Reporter takes events. It must be quick and safe for use by several goroutines.
type Reporter func(Event)
