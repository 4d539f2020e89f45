// Package wire holds the messages between the host and the guest-agent, and how they are framed: the only thing
// that the two share.
//
// It knows the shape of every message and refuses what has another; it refuses to know what any of them causes.
// It imports nothing of the house.
package wire

import "time"

// Stage is one piece of work for the agent.
type Stage struct {
	Name    string            `json:"name"`
	Script  string            `json:"script"`  // run by /bin/sh -eu, as the user build, in WorkDir
	Env     map[string]string `json:"env"`     // the whole environment
	Root    bool              `json:"root"`    // run as root: only for configuring an image
	WorkDir string            `json:"workdir"` // made if missing
	Sources []Mount           `json:"sources"` // writable overlays of folders on the input disk
	Outputs []string          `json:"outputs"` // files relative to OutDir, and folders, with a slash at the end; all must exist
	OutDir  string            `json:"outdir"`
	Timeout time.Duration     `json:"timeout"` // 0: none
	Silence time.Duration     `json:"silence"` // 0: none
	Record  bool              `json:"record"`  // tell which programs ran
	Device  string            `json:"device"`  // serial of the disk that takes the outputs; unused if there are none
	Tmpfs   bool              `json:"tmpfs"`   // what the stage writes lies in memory, not on the scratch disk
}

// Mount lays a folder of the input disk where a stage can write to it.
type Mount struct {
	From string `json:"from"` // path on the input disk
	To   string `json:"to"`   // absolute path in the guest
}

// Result is what a stage came to.
type Result struct {
	ExitCode    int       `json:"exit_code"`
	Signal      string    `json:"signal,omitempty"`
	Reason      string    `json:"reason,omitempty"`       // timeout, silence, missing output …: a sentence, or empty
	ScratchFull int64     `json:"scratch_full,omitempty"` // the script failed with the scratch disk full: its size in bytes
	Usage       Usage     `json:"usage"`
	Stream      Stream    `json:"stream"`             // where the outputs lie on the output disk
	Programs    *Programs `json:"programs,omitempty"` // what ran, if that was asked for
}

// Usage is what all processes of a stage took together.
type Usage struct {
	Wall    time.Duration `json:"wall"`
	User    time.Duration `json:"user"`    // processor time
	System  time.Duration `json:"system"`  // processor time of the kernel on their behalf
	MaxRSS  int64         `json:"max_rss"` // bytes of memory, of the largest process
	Memory  int64         `json:"memory"`  // most bytes that programs held at once, as seen once a second; 0: not known
	Written int64         `json:"written"` // bytes to disks
}

// Stream says which stream lies on the output disk, from its first byte. See package stream.
type Stream struct {
	Size   int64  `json:"size"`
	Digest uint64 `json:"digest,string"`
}

// Seal is what the agent found when it looked for a way out of the jar.
type Seal struct {
	Interfaces []string  `json:"interfaces"`  // network interfaces by name; sealed: lo alone
	Routes     []string  `json:"routes"`      // lines of the IPv4 and IPv6 routing tables that leave lo
	NameLookup string    `json:"name_lookup"` // the error that looking up a name gave; sealed: not empty
	Mounts     []string  `json:"mounts"`      // shared folders of the host (9p, virtiofs, nfs, cifs …); sealed: none
	Clock      time.Time `json:"clock"`       // as the guest sees it
	Kernel     string    `json:"kernel"`      // uname -srvm
	CPU        string    `json:"cpu"`         // model name
	IPLink     string    `json:"ip_link"`     // what 'ip link' printed, or the same read from /sys/class/net
	Sealed     bool      `json:"sealed"`
	Leaks      []string  `json:"leaks"` // one sentence each, empty if sealed
}

// Capture asks for the upper directory of an overlay as a tar archive on a disk.
type Capture struct {
	Upper   string    `json:"upper"`             // e.g. /belljar/overlay/upper
	Exclude []string  `json:"exclude,omitempty"` // path.Match patterns below Upper; a match takes its subtree along
	Clock   time.Time `json:"clock"`             // later mtimes are set back to it; zero: mtimes stay
	Device  string    `json:"device"`            // serial of the disk that takes the archive
}

// Captured is what a Capture came to.
type Captured struct {
	Stream  Stream   `json:"stream"`
	Entries int      `json:"entries"`           // archive members
	Skipped []string `json:"skipped,omitempty"` // sockets, which no archive can hold; sorted
}
