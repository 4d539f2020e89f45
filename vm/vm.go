// Package vm knows what a virtual machine is, how one is asked for, and what is left of it afterwards.
// It refuses to know what runs inside: builds, SSH and disk contents are other packages' business.
package vm

import (
	"context"
	"io"
	"net"
	"time"
)

// Backend starts virtual machines.
type Backend interface {
	// Preflight says what this host lacks to run m, as a *fault.Error of kind Host with its remedy; nil if nothing.
	// A machine that makes no sense on any host is of kind Usage, and wraps a *FieldError.
	Preflight(ctx context.Context, m Machine) error
	// Start boots m with its sockets, logs and evidence in dir, which must exist and be this machine's alone. The
	// machine lives no longer than ctx: when that ends it is killed, and Wait returns the context's cause. A failed
	// Start has undone what it began.
	Start(ctx context.Context, m Machine, dir string) (Guest, error)
}

// Guest is a running virtual machine.
type Guest interface {
	// Dial opens the host's end of a named virtio-serial port. A port can be dialled once.
	Dial(ctx context.Context, port string) (net.Conn, error)
	// Console reads the serial console from power-on and blocks for more; io.EOF after the guest's end.
	// Each call makes a new reader, so that none can starve another.
	Console() io.ReadCloser
	// Wait blocks until the machine is gone: nil after a shutdown or a Close, *fault.Error of kind Host (QEMU died) or
	// Guest (panic, or reset of a machine that exits on reset), with the console's tail and the command line as
	// evidence.
	Wait() error
	// Close asks the machine to power off, waits, then kills and reaps. Idempotent, and safe to call at any time.
	Close() error
}

// Saver is a Guest whose state can be kept: memory, processors and devices, and nothing that its disks hold. Sandboxed
// and remote machines differ in what they can hand out, so not every Guest is one.
type Saver interface {
	// Save stops the machine for good and writes its state to w. What is left to do with the Guest is to Close it.
	Save(ctx context.Context, w io.Writer) error
}

// Restorer is a Backend that can start a machine in the middle of its life.
type Restorer interface {
	// Restore is Start with a state that a Saver wrote in place of power-on. m must be the machine that was saved in
	// all but its name, the paths of its files and the contents of those disks that the guest had not opened; state is
	// read to its end before Restore returns. A state that does not fit, or is damaged, is an error of kind Host.
	Restore(ctx context.Context, m Machine, dir string, state io.Reader) (Guest, error)
}

// Explainer is a Guest that can say how to start the same machine by hand.
type Explainer interface{ CommandLine() string }

// Logger is a Guest with more logs than its console: 'debugcon', 'stderr', 'events'. They read as Console does.
type Logger interface {
	Log(name string) (io.ReadCloser, error)
}

// DiskReader is a Guest whose writable disks can be read by the host, wherever they lie.
type DiskReader interface {
	// OpenDisk reads the first n bytes of a writable disk as the guest has written them, or all of a disk that is
	// smaller. It may be called until Close, while the machine runs and after it has ended.
	OpenDisk(ctx context.Context, serial string, n int64) (io.ReadCloser, error)
}

// DiskFollower is a DiskReader whose disks can be read while the guest writes to them.
type DiskFollower interface {
	// FollowDisk opens a writable disk. What the guest has written can be read as soon as the write is done.
	FollowDisk(serial string) (FollowedDisk, error)
}

// FollowedDisk is a disk that the guest writes to.
type FollowedDisk interface {
	io.ReaderAt
	io.Closer
	// Discard gives the first n bytes back to the host. They may read as zeros then, for the guest too.
	Discard(n int64) error
}

// ResetCounter is a Guest that knows how often the machine has been reset from inside since power-on.
type ResetCounter interface{ Resets() int }

// Prober is a Guest that can be asked how far it has come.
type Prober interface {
	// Progress takes a sample, within seconds even if what runs the machine hangs: then Progress.Mute is set. The
	// error is for a machine that is gone, and for ctx.
	Progress(ctx context.Context) (Progress, error)
}

// Progress is what a machine has done since power-on, and how that stands which runs it. The counters only grow; one that
// a backend cannot know stays zero.
type Progress struct {
	CPU     time.Duration // that the guest's processors ran
	Starved time.Duration // that they could have run, and the host ran something else
	Demand  time.Duration // that the busiest of them, from one sample to the next, ran or could have run
	Read    int64         // bytes from disks
	Written int64         // bytes to disks
	Console int64         // bytes on the consoles
	Ports   int64         // bytes that the guest sent over its ports
	Resets  int           // from inside

	Halted string // why no processor runs although the guest wants to: QEMU's run state, e.g. 'io-error'; empty: they run
	Full   bool   // it is halted because the host's disk had no room for what the guest wrote
	Mute   bool   // what runs the machine (QEMU's monitor, libvirtd) did not answer
	PID    int    // of the process that runs the machine; 0 if it is not on this host
	State  string // of that process, a letter of proc_pid_stat(5), e.g. 'T' for stopped; empty if unknown
}

// Screendumper is a Guest with a screen (Machine.Screen).
type Screendumper interface {
	// Screendump writes what the screen shows into the machine's folder, as a PNG, and returns its path.
	Screendump(ctx context.Context) (path string, err error)
}

// Ender is a Guest that can say how it ended: by itself, or how much force Close needed. Empty while it runs.
type Ender interface{ Ended() Ended }

// Confined is a Guest that can say what keeps the program that runs it from the rest of the host, should the machine
// break out into it.
type Confined interface{ Confinement() []Measure }

// Measure is one of the things that confine a machine's program.
type Measure struct {
	Name   string `json:"name"`             // sandbox, user, landlock, network, limits
	Holds  bool   `json:"holds"`            // it is in force
	Text   string `json:"text"`             // what it is here, or why it is not
	Remedy string `json:"remedy,omitempty"` // what would help, if it is not
}

// Ended says how much it took to end a machine.
type Ended string

// The ways in which a machine ends, from the gentlest.
const (
	EndedItself  Ended = "ended by itself"
	EndedPowered Ended = "powered off when asked"
	EndedQuit    Ended = "QEMU quit when asked"
	EndedKilled  Ended = "QEMU was killed"
)
