package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Protocol is the version of this package's messages. Both sides must have the same: the host brings its own agent.
const Protocol = 4

// Kind says what a message is.
type Kind string

// The kinds. The agent speaks first: Hello. Then the host asks (one request at a time, Cancel apart) and the agent
// answers each request with any number of Log, Step and Written and exactly one Result or Error of the same ID.
const (
	KindHello Kind = "hello"

	KindProbe    Kind = "probe"    // answered with Seal
	KindPrepare  Kind = "prepare"  // a Stage up to, but without, its script: sources in place
	KindStage    Kind = "stage"    // answered with Result
	KindCapture  Kind = "capture"  // answered with Captured
	KindWake     Kind = "wake"     // of a parked guest, on a port of its own; answered with Result
	KindPoweroff Kind = "poweroff" // answered, then done when the host hangs up
	KindCancel   Kind = "cancel"   // ends the request of the same ID early; not answered itself

	KindLog     Kind = "log"
	KindStep    Kind = "step"
	KindWritten Kind = "written"
	KindResult  Kind = "result"
	KindError   Kind = "error"
)

// Message is the envelope: the kind, and the one body that belongs to it.
type Message struct {
	ID   uint64 `json:"id"` // of the request; 0 for Hello
	Kind Kind   `json:"kind"`

	Hello    *Hello    `json:"hello,omitempty"`
	Probe    *Probe    `json:"probe,omitempty"`
	Stage    *Stage    `json:"stage,omitempty"`
	Capture  *Capture  `json:"capture,omitempty"`
	Wake     *Wake     `json:"wake,omitempty"`
	Log      *Log      `json:"log,omitempty"`
	Step     *Step     `json:"step,omitempty"`
	Written  *Written  `json:"written,omitempty"`
	Seal     *Seal     `json:"seal,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Captured *Captured `json:"captured,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// Hello is how the agent presents itself.
type Hello struct {
	Protocol    int    `json:"protocol"`
	AgentSHA256 string `json:"agent_sha256"` // of the running binary, read from /proc/self/exe
	PID         int    `json:"pid"`
	UID         int    `json:"uid"`
}

// Probe asks the agent to look for a way out of the jar.
type Probe struct {
	Lookup string `json:"lookup,omitempty"` // the name to look up; empty: example.com (RFC 2606)
}

// WakeEntropy is how many bytes of entropy a guest is woken with.
const WakeEntropy = 64

// Wake makes of a guest that was restored from a state a guest of its own: what every guest of that state had in common
// is replaced.
type Wake struct {
	Entropy []byte     `json:"entropy"` // for the kernel's generator: WakeEntropy bytes at least
	Clock   time.Time  `json:"clock"`
	Files   []WakeFile `json:"files"` // for /belljar: the keys
}

// WakeFile is a file for the guest's folder /belljar.
type WakeFile struct {
	Name string `json:"name"`
	Mode uint32 `json:"mode"`
	Data []byte `json:"data"`
}

// Streams of a Log.
const (
	Output = "output" // of the script, stdout and stderr in the order in which they came
	Agent  = "agent"  // the agent's own remarks, such as how much of a log was left out
)

// Log is a piece of a log; it may start and end in the middle of a line.
type Log struct {
	Stream string `json:"stream"`
	Data   []byte `json:"data"`
}

// Step says what the agent is doing now, for whoever watches: it belongs to no log.
type Step struct {
	Text string `json:"text"`
}

// Written says how much of the request's stream the host can read from the output disk: what comes before will not change.
type Written struct {
	Size int64 `json:"size"` // in bytes, from the disk's beginning
}

// Error is why the agent could not do what it was asked: a fault in the guest or in the request, never a script's.
type Error struct {
	Text string `json:"text"`
}

// Check reports a message whose body does not belong to its kind.
func (m *Message) Check() error {
	want, known := map[Kind]bool{
		KindHello: m.Hello != nil, KindProbe: m.Probe != nil, KindPrepare: m.Stage != nil, KindStage: m.Stage != nil,
		KindCapture: m.Capture != nil, KindWake: m.Wake != nil, KindLog: m.Log != nil, KindStep: m.Step != nil, KindWritten: m.Written != nil,
		KindError: m.Error != nil, KindPoweroff: true, KindCancel: true, KindResult: true,
	}[m.Kind]
	switch {
	case !known:
		return fmt.Errorf("message of unknown kind %q", m.Kind)
	case !want:
		return fmt.Errorf("message of kind %q without its body", m.Kind)
	case m.Kind != KindHello && m.ID == 0:
		return fmt.Errorf("message of kind %q without an id", m.Kind)
	}
	return nil
}

// CheckPath reports a path that is not a plain relative one: outputs and archive members may only name what lies
// below their folder.
func CheckPath(name string) error {
	switch {
	case name == "" || name == ".":
		return errors.New("empty path")
	case strings.ContainsAny(name, "\x00\n\r"):
		return fmt.Errorf("path %q has a control character", name)
	case !fs.ValidPath(name):
		return fmt.Errorf("path %q is not plain and relative (no leading slash, no '.', '..' or empty element)", name)
	}
	return nil
}
