package pipeline

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Mark is a moment on a guest's way from Start to its agent's answer.
type Mark struct {
	Name string        `json:"name"`
	At   time.Duration `json:"at_ns"` // since the machine was asked for
}

// The marks, in the order in which they come.
const (
	MarkRunning = "running" // the emulator runs: the first instruction may come
	MarkInit    = "init"    // the initramfs has said its first line
	MarkRoot    = "root"    // the root is laid out
	MarkServing = "serving" // sshd is started
	MarkSSH     = "ssh"     // both sides have proven who they are
	MarkAgent   = "agent"   // the agent has said hello
)

// spoken are the lines of the guest's own init that are marks. See image/initramfs.
var spoken = []struct{ prefix, mark string }{
	{"belljar: init kernel ", MarkInit}, {"belljar: init root ", MarkRoot}, {"belljar: sshd on ", MarkServing},
}

// trail keeps the marks of one guest. It is safe for concurrent use.
type trail struct {
	start time.Time
	mu    sync.Mutex
	marks []Mark
}

func newTrail() *trail { return &trail{start: time.Now()} }

// add notes that a moment is now.
func (t *trail) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks = append(t.marks, Mark{name, time.Since(t.start)})
}

// line looks for a mark in a line of the console.
func (t *trail) line(l string) {
	for _, s := range spoken {
		if strings.HasPrefix(l, s.prefix) {
			t.add(s.mark)
		}
	}
}

// all are the marks so far.
func (t *trail) all() []Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Mark(nil), t.marks...)
}

// String is for a run's log: 'running 0.10 s, init 2.31 s, …'.
func (t *trail) String() string {
	var parts []string
	for _, m := range t.all() {
		parts = append(parts, fmt.Sprintf("%s %.2f s", m.Name, m.At.Seconds()))
	}
	return strings.Join(parts, ", ")
}
