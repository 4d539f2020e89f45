package pipeline

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// A fast start: the state of a guest that has booted as far as it can without knowing what for is saved once for each
// image and machine, and later guests go on from there. docs/boot.md tells what makes that safe.

// wakePort is the virtio-serial port on which a parked guest is told whose it is to be. Every guest has it, so that
// those from power-on see the same machine.
const wakePort = "belljar.wake"

// inputsSize is the size of every input disk that fits into it: a guest's kernel asks once how large a disk is, and
// one that goes on from a state does not ask again. The file is sparse.
const inputsSize = 32 << 30

// stateRecipe is the version of how a state is made: it grows when states made before must not be used any more.
const stateRecipe = "1"

// The kinds under which the store remembers states, and that a guest was once booted without one.
const (
	stateKind = "states"
	bootKind  = "boots"
)

// savedState is what is remembered of a state.
type savedState struct {
	Object store.Digest // QEMU's migration stream, packed by zstd
	Size   int64        // of the stream
	Stored int64        // of the object
	Took   time.Duration
}

// beginning is how a guest comes to life. The zero value is power-on.
type beginning struct {
	state *savedState // it goes on from there
	park  bool        // from power-on, to be parked: nothing of what the guest is for is known to it
}

// The words for it in results and records.
const (
	StartCold = "power-on"
	StartFast = "saved state"
)

func (b beginning) String() string {
	if b.state != nil {
		return StartFast
	}
	return StartCold
}

// startGuest starts a machine from power-on, or from a state; then it also wakes it.
func (h *house) startGuest(ctx context.Context, dir string, m vm.Machine, keys *provision.Keys, from beginning,
) (vm.Guest, error) {
	if from.state == nil {
		return h.backend.Start(ctx, m, dir)
	}
	restorer, ok := h.backend.(vm.Restorer)
	if !ok {
		return nil, fault.New(fault.Host, "start "+m.Name, "this backend knows no saved states")
	}
	var g vm.Guest
	err := h.store.Stream(ctx, from.state.Object, func(r io.Reader) error {
		unpacked, err := zstd.NewReader(r)
		if err != nil {
			return err
		}
		defer unpacked.Close()
		g, err = restorer.Restore(ctx, m, dir, unpacked)
		return err
	})
	if err == nil {
		err = h.wake(ctx, g, m.Clock, keys)
	}
	if err != nil {
		if g != nil {
			g.Close()
		}
		return nil, err
	}
	return g, nil
}

// wakeLimit is how long a guest may take to wake: it has 64 bytes to mix and two files to write.
const wakeLimit = 10 * time.Second

func (h *house) wake(ctx context.Context, g vm.Guest, clock time.Time, keys *provision.Keys) error {
	limit := h.pace.Of(wakeLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fault.New(fault.Guest, "wake guest", "no answer within %s", limit))
	defer cancel()
	c, err := g.Dial(ctx, wakePort)
	if err != nil {
		return err
	}
	defer c.Close()
	return provision.Wake(ctx, c, rand.Reader, clock, keys)
}

// mayStartFast says whether states are of use here at all. Under KVM a boot takes about a second and nothing has been
// measured; without a backend that can restore there is nothing to ask.
func (j *jar) mayStartFast() bool {
	_, can := j.backend.(vm.Restorer)
	return can && !j.opts.Cold && j.decision.Accel == vm.TCG
}

// stateKey names a state by all that its guest has seen: everything of the machine but the paths, and what runs it.
func (j *jar) stateKey(m vm.Machine) (string, error) {
	m = vm.Machine{
		Arch: m.Arch, Type: m.Type, CPU: m.CPU, CPUs: m.CPUs, Memory: m.Memory, Clock: m.Clock, Accel: m.Accel,
		Boot: vm.Boot{Cmdline: m.Boot.Cmdline}, Disks: m.Disks, DebugCon: m.DebugCon, Entropy: m.Entropy, OnReset: m.OnReset,
	}
	type disk struct {
		Serial, Bus string
		ReadOnly    bool
		Size        int64
	}
	var disks []disk
	for _, d := range m.Disks {
		info, err := os.Stat(d.Path)
		if err != nil {
			return "", fault.New(fault.Host, "saved state", "%w", err)
		}
		disks = append(disks, disk{d.Serial, d.Bus, d.ReadOnly, info.Size()})
	}
	m.Disks = nil
	return identity([]any{
		"state", stateRecipe, m, disks, j.image.Root, j.bundle.Kernel, j.bundle.Initramfs, j.qemu,
	}), nil
}

// beginning decides how a stage's guest comes to life. The first guest of its kind boots from power-on, and so does every
// guest if states are of no use; the second of its kind is the occasion to save a state, which costs about two boots;
// from then on all go on from it. A state that cannot be made is no reason not to build.
func (j *jar) beginning(ctx context.Context, m vm.Machine) (beginning, string, error) {
	if !j.mayStartFast() {
		return beginning{}, "", nil
	}
	key, err := j.stateKey(m)
	if err != nil {
		return beginning{}, "", err
	}
	if state, err := j.knownState(key); err != nil || state != nil {
		return beginning{state: state}, key, err
	}
	var before bool
	if ok, err := j.store.Lookup(bootKind, key, &before); err != nil || !ok {
		return beginning{}, key, errors.Join(err, j.store.Bind(bootKind, key, true))
	}
	state, err := j.makeState(ctx, m, key)
	if err != nil {
		if ctx.Err() != nil {
			return beginning{}, key, err
		}
		text := fmt.Sprintf("no fast start: the state of a booted guest cannot be saved: %v", err)
		j.report(Event{Kind: Warning, Phase: PhaseBoot, Text: text})
		return beginning{}, key, nil
	}
	return beginning{state: state}, key, nil
}

func (j *jar) knownState(key string) (*savedState, error) {
	var state savedState
	ok, err := j.store.Lookup(stateKind, key, &state)
	if err != nil || !ok || !j.store.Has(state.Object) {
		return nil, err
	}
	return &state, nil
}

// dropState forgets a state that does not work here, and says so.
func (j *jar) dropState(key string, why error) error {
	text := fmt.Sprintf("the saved state of a booted guest does not work and is dropped (%v); booting from power-on", why)
	j.report(Event{Kind: Warning, Phase: PhaseBoot, Text: text})
	return errors.Join(j.store.Unbind(stateKind, key), j.store.Unbind(bootKind, key))
}

// makeState boots a guest like m, parks it and saves its state. Of several that want it one makes it.
func (j *jar) makeState(ctx context.Context, m vm.Machine, key string) (*savedState, error) {
	release, err := j.store.Claim(ctx, stateKind, key, func() {
		j.note(PhaseBoot, "another belljar is saving the state of this guest: waiting for it")
	})
	if err != nil {
		return nil, err
	}
	defer release()
	if state, err := j.knownState(key); err != nil || state != nil {
		return state, err
	}
	var state savedState
	part, err := j.phase(PhaseBoot, "fast start", "a guest whose state is saved, for those after it", func() (string, error) {
		started := time.Now()
		if err := j.saveState(ctx, m, &state); err != nil {
			return "", err
		}
		state.Took = time.Since(started)
		return fmt.Sprintf("%s of memory and devices, %s in the store", size(state.Size), size(state.Stored)), nil
	})
	j.parts = append(j.parts, part)
	if err != nil {
		return nil, err
	}
	return &state, j.store.Bind(stateKind, key, state)
}

// saveState does makeState's work in a machine with the same root, and disks of the same size with nothing on them.
func (j *jar) saveState(ctx context.Context, m vm.Machine, state *savedState) (err error) {
	dir, err := j.run.Dir("fast-start" + j.mark)
	if err != nil {
		return err
	}
	m.Name, m.Disks = "fast-start", append([]vm.Disk(nil), m.Disks...)
	for i, d := range m.Disks {
		if d.Serial == diskRoot {
			continue
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return fault.New(fault.Host, "saved state", "%w", err)
		}
		m.Disks[i].Path = filepath.Join(dir, d.Serial+".img")
		if err := sparse(m.Disks[i].Path, info.Size()); err != nil {
			return err
		}
		defer os.Remove(m.Disks[i].Path)
	}
	g, err := j.bootFrom(ctx, dir, m, j.bundle, PhaseBoot, "fast start", beginning{park: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	saver, ok := g.guest.(vm.Saver)
	if !ok {
		return fault.New(fault.Host, "saved state", "this guest cannot be saved")
	}
	line, err := j.park(g)
	if err != nil {
		return g.explain(err)
	}
	defer line.Close() // to the end: a guest that is hung up on would not wait
	if state.Object, err = j.putStream(ctx, func(w io.Writer) error {
		packed, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return err
		}
		count := &counter{w: packed}
		err = saver.Save(ctx, count)
		state.Size = count.n
		return errors.Join(err, packed.Close())
	}); err != nil {
		return err
	}
	state.Stored, err = j.store.Size(state.Object)
	return err
}

// park hangs up, and waits until the guest says that nothing is left of the session. It returns the line on which the
// guest now waits.
func (j *jar) park(g *booted) (net.Conn, error) {
	_, digest, err := provision.Agent(j.locked.Arch)
	if err != nil {
		return nil, err
	}
	g.unguard()
	g.Session.Close()
	g.Session = nil
	limit := j.pace.Of(bootDeadline)
	ctx, cancel := context.WithTimeoutCause(g.ctx, limit, fault.New(fault.Guest, "park guest", "not parked within %s", limit))
	defer cancel()
	c, err := g.guest.Dial(ctx, wakePort)
	if err != nil {
		return nil, err
	}
	if err := provision.Parked(ctx, c, digest); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// stretch makes an input disk as large as all are that a state may be used with. A larger one stays as it is: its guest
// boots from power-on, for no state knows a disk of that size.
func (j *jar) stretch(f *os.File) error {
	if _, can := j.backend.(vm.Restorer); !can {
		return nil
	}
	info, err := f.Stat()
	if err == nil && info.Size() < inputsSize {
		err = f.Truncate(inputsSize)
	}
	if err != nil {
		return fault.New(fault.Host, "write input disk", "%w", err)
	}
	return nil
}

// bootFast boots a stage's guest from a state where that is possible, and otherwise, or where it comes to nothing, from
// power-on.
func (j *jar) bootFast(ctx context.Context, dir string, m vm.Machine, name string) (*booted, error) {
	from, key, err := j.beginning(ctx, m)
	if err != nil {
		return nil, err
	}
	g, err := j.bootFrom(ctx, dir, m, j.bundle, PhaseBoot, name, from)
	if err == nil || from.state == nil || ctx.Err() != nil {
		return g, err
	}
	if _, damaged := errors.AsType[*corruption](err); damaged {
		return nil, err
	}
	if err := j.dropState(key, err); err != nil {
		return nil, err
	}
	return j.boot(ctx, dir, m, j.bundle, PhaseBoot, name)
}
