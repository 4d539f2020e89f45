package vm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/belljar/belljar/fault"
)

// The files of a run's folder. Beside them stand a folder for each machine and for the quarantine.
const (
	lockFile       = "lock"
	stateFile      = "run.json"
	logFile        = "run.log"
	quarantineName = "quarantine"
)

// State is how far a run has come.
type State string

// The states. Dead is a run that says it runs while nobody holds its lock.
const (
	Running   State = "running"
	Passed    State = "passed"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Dead      State = "dead"
)

// Info is what a run says of itself, in run.json.
type Info struct {
	ID      string    `json:"id"`
	What    string    `json:"what"` // e.g. 'build seabios'
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	State   State     `json:"state"`
	Phase   string    `json:"phase,omitempty"` // what it does now, or did last
	Name    string    `json:"name,omitempty"`  // of the stage or test, where the phase has several
	Since   time.Time `json:"since,omitzero"`  // when the phase began
	Error   string    `json:"error,omitempty"`
	Fault   string    `json:"fault,omitempty"` // the error's kind

	Stopping time.Time `json:"stopping,omitzero"` // when it was asked to end
	Kept     string    `json:"kept,omitempty"`    // the folder of the machine that it keeps after a failure
	Swept    time.Time `json:"swept,omitzero"`    // when a later command cleaned up after its death
}

// Runs is the folder that holds all runs.
type Runs struct{ root string }

// OpenRuns opens the folder of runs, and makes it if it is not there.
func OpenRuns(root string) (*Runs, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("runs folder: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fault.New(fault.Host, "runs folder", "%w", err)
	}
	return &Runs{root: root}, nil
}

// Run is a run of this process: a folder, locked for as long as it lives.
type Run struct {
	runs *Runs
	path string
	lock *os.File

	mu   sync.Mutex
	info Info
	log  *os.File

	unwatch func() bool // ends the wait for the end of its context
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// newID is sortable by time and speaks: 20261121-214501-seabios-3f2a.
func newID(now time.Time, what string) string {
	fields := strings.Fields(what)
	last := "run"
	if len(fields) > 0 {
		last = strings.Trim(notWord.ReplaceAllString(strings.ToLower(filepath.Base(fields[len(fields)-1])), "-"), "-")
	}
	if len(last) > 24 {
		last = last[:24]
	}
	var r [2]byte
	_, _ = rand.Read(r[:]) // never fails (crypto/rand)
	return strings.Join([]string{now.UTC().Format("20060102-150405"), last, hex.EncodeToString(r[:])}, "-")
}

// Create makes a run's folder and locks it. What is a few words for people; the last of them names the folder.
func (r *Runs) Create(ctx context.Context, what string) (_ *Run, err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	now := time.Now().UTC()
	var run *Run
	for range 8 { // two runs in one second may draw the same two random bytes
		id := newID(now, what)
		run = &Run{runs: r, path: filepath.Join(r.root, id), info: Info{
			ID: id, What: what, PID: os.Getpid(), Started: now.Truncate(time.Millisecond), State: Running,
		}}
		// Private: sockets and keys lie in it.
		if err = os.Mkdir(run.path, 0o700); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, fault.New(fault.Host, "make run folder", "%w", err)
	}
	defer func() {
		if err != nil {
			run.release()
			os.RemoveAll(run.path)
		}
	}()
	// The lock comes first: a folder without state and without a held lock is free to be swept.
	if run.lock, err = takeLock(filepath.Join(run.path, lockFile)); err != nil {
		return nil, fault.New(fault.Host, "lock run folder", "%w", err)
	}
	run.log, err = os.OpenFile(filepath.Join(run.path, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fault.New(fault.Host, "make run log", "%w", err)
	}
	if _, err = run.Dir(quarantineName); err != nil {
		return nil, err
	}
	if err = run.save(); err != nil {
		return nil, err
	}
	run.unwatch = context.AfterFunc(ctx, run.stopping)
	return run, nil
}

// ID names the run.
func (r *Run) ID() string { return r.info.ID }

// Path is the run's folder, absolute.
func (r *Run) Path() string { return r.path }

// Dir makes a sub-folder, for a machine's sockets, disks and logs.
func (r *Run) Dir(name string) (string, error) {
	path := filepath.Join(r.path, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fault.New(fault.Host, "make run folder", "%w", err)
	}
	return path, nil
}

// Quarantine is the folder in which artifacts wait for their verdict.
func (r *Run) Quarantine() string { return filepath.Join(r.path, quarantineName) }

// Log is the run's own log; writes to it are appended whole.
func (r *Run) Log() io.Writer { return r.log }

// Info is what the run says of itself now.
func (r *Run) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// Phase says what the run does now.
func (r *Run) Phase(phase, name string) error {
	return r.note(func(i *Info) {
		i.Phase, i.Name, i.Since = phase, name, time.Now().UTC().Truncate(time.Millisecond)
	})
}

// Keeps says that the machine in this folder of the run is left running after a failure, for people to look at, and why;
// an empty name that it is so no more.
func (r *Run) Keeps(machine string, why error) error {
	return r.note(func(i *Info) {
		if i.Kept = machine; machine != "" {
			i.Error, i.Fault = why.Error(), fault.KindOf(why).String()
		}
	})
}

// stopping notes that the run's context has ended: it is cleaning up, and need not be told to again.
func (r *Run) stopping() {
	_ = r.note(func(i *Info) { i.Stopping = time.Now().UTC().Truncate(time.Millisecond) }) // for onlookers
}

// note changes what a live run says of itself.
func (r *Run) note(change func(*Info)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock == nil {
		return nil // it is over: its last word stands
	}
	change(&r.info)
	return r.save()
}

// save writes run.json; the caller holds mu, or is alone.
func (r *Run) save() error {
	if err := writeJSON(filepath.Join(r.path, stateFile), r.info); err != nil {
		return fault.New(fault.Host, "note run state", "%w", err)
	}
	return nil
}

// Finish notes how the run ended and removes all but its small files. It unlocks the run, which is over then; a second
// call does nothing.
func (r *Run) Finish(state State, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock == nil {
		return nil // finished before
	}
	r.unwatch()
	r.info.Kept = ""
	r.info.State, r.info.Ended = state, time.Now().UTC().Truncate(time.Millisecond)
	if cause != nil {
		r.info.Error, r.info.Fault = cause.Error(), fault.KindOf(cause).String()
	}
	err := slim(r.path)
	err = errors.Join(err, r.save()) // last: a run that is killed before it is dead, and swept
	r.release()
	return err
}

// release closes what the run holds open.
func (r *Run) release() {
	if r.log != nil {
		r.log.Close()
	}
	if r.lock != nil {
		r.lock.Close()
		r.lock = nil
	}
}

// stays says which files outlive a run: what people read.
func stays(name string) bool {
	switch filepath.Ext(name) {
	case ".log", ".json", ".png":
		return !strings.HasPrefix(name, ".") // a dot begins a temp file
	}
	return name == lockFile || name == "cmdline"
}

// slim removes sockets, disks, keys and temp files from a run's folder: all that does not stay, and empty folders.
func slim(root string) error {
	var all error
	var folders []string
	walk := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			folders = append(folders, path)
		case !d.Type().IsRegular() || !stays(d.Name()):
			all = errors.Join(all, os.Remove(path))
		}
		return nil
	})
	for i := len(folders) - 1; i > 0; i-- { // deepest first, without root
		_ = os.Remove(folders[i]) // fails if not empty, as it should
	}
	if err := errors.Join(walk, all); err != nil {
		return fault.New(fault.Host, "slim run folder", "%w", err)
	}
	return nil
}

// List tells of all runs, oldest first.
func (r *Runs) List() ([]Info, error) {
	entries, err := os.ReadDir(r.root)
	if err != nil {
		return nil, fault.New(fault.Host, "list runs", "%w", err)
	}
	var all []Info
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, r.info(e.Name()))
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all, nil
}

// said reads what a run says of itself.
func (r *Runs) said(id string) Info {
	info := Info{ID: id, State: Dead}
	if b, err := os.ReadFile(filepath.Join(r.root, id, stateFile)); err == nil {
		_ = json.Unmarshal(b, &info) // half a state is as good as none
		info.ID = id
	}
	return info
}

// info reads what a run says, and corrects it by the lock.
func (r *Runs) info(id string) Info {
	info := r.said(id)
	if info.State != Running && info.State != Dead {
		return info
	}
	info.State = Dead
	switch lock, err := tryLock(filepath.Join(r.root, id, lockFile), 0); {
	case err == nil:
		lock.Close()
	case errors.Is(err, errLocked):
		info.State = Running
	}
	return info
}

// Find is what is known of the run with this id.
func (r *Runs) Find(id string) (Info, bool) {
	if _, err := os.Stat(filepath.Join(r.root, id)); err != nil || id == "" {
		return Info{}, false
	}
	return r.info(id), true
}

// Path finds a run's folder by its id, or by a part of it that only one run has.
func (r *Runs) Path(id string) (string, error) {
	all, err := r.List()
	if err != nil {
		return "", err
	}
	var hits, names []string
	for _, i := range all {
		if i.ID == id {
			return filepath.Join(r.root, id), nil
		}
		if id != "" && strings.Contains(i.ID, id) {
			hits = append(hits, i.ID)
		}
		names = append(names, i.ID)
	}
	switch {
	case len(hits) == 1:
		return filepath.Join(r.root, hits[0]), nil
	case len(hits) > 1:
		return "", fault.New(fault.Usage, "find run", "%q fits several runs: %s", id, strings.Join(hits, ", "))
	case len(names) == 0:
		return "", fault.New(fault.Usage, "find run", "no run %q: there are no runs", id)
	}
	return "", fault.New(fault.Usage, "find run", "no run %q", id).WithRemedy("the newest is %s", names[len(names)-1])
}
