package provision

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// Followed is an output disk that can be read while the guest writes it.
type Followed interface {
	io.ReaderAt
	io.Closer
	// Discard gives back to the host what the first n bytes of the disk take. They are not read again.
	Discard(n int64) error
}

// Taking is a stage's outputs on their way into the host. They are read while the guest writes them, and what was read is
// given back at once: however large they are, little of them is in the host's memory, and nothing on its own disk but what
// is kept. Where the disk cannot be followed, and of few bytes, they are read when they are there.
//
// Written is for one goroutine, the one that runs the stage. Then End or Stop must be called.
type Taking struct {
	ctx     context.Context //nolint:containedctx // of the whole taking, which ends in another call
	disk    Disk
	follow  func() (Followed, error)
	outputs []string
	put     func(Output, io.Reader) error

	tail *tail // nil: nothing is read yet
	done chan error
}

// TakeOutputs prepares to hand every output of a stage to put, which keeps what it reads: see ReadOutputs. follow may be
// nil. Only after a nil return of End may the caller believe what put has seen.
func TakeOutputs(ctx context.Context, disk Disk, follow func() (Followed, error), outputs []string, put func(Output, io.Reader) error) *Taking {
	return &Taking{ctx: ctx, disk: disk, follow: follow, outputs: outputs, put: put}
}

// Written says that the first n bytes of the disk are the stream's.
func (t *Taking) Written(n int64) {
	if t.follow == nil || len(t.outputs) == 0 {
		return
	}
	if t.tail == nil {
		f, err := t.follow()
		if err != nil {
			t.follow = nil // End reads the disk, and says what is wrong with it
			return
		}
		t.tail, t.done = newTail(f), make(chan error, 1)
		r := newReceived(t.ctx, t.tail, f, t.tail.told)
		go func() {
			defer r.Close()
			t.done <- r.outputs(t.outputs, t.put)
		}()
	}
	t.tail.grow(n)
}

// End says what the guest says of the whole stream, and waits until put has had all of it.
func (t *Taking) End(s wire.Stream) error {
	if t.tail == nil {
		return ReadOutputs(t.ctx, t.disk, t.outputs, s, t.put)
	}
	t.tail.end(s, nil)
	return t.wait()
}

// wait is what the taking that has begun came to.
func (t *Taking) wait() error { return <-t.done }

// Stop says that no more is written: what put had is void. It returns when put has.
func (t *Taking) Stop() {
	if t.tail != nil {
		t.tail.end(wire.Stream{}, errors.New("the stage has ended before its outputs"))
		_ = t.wait() // why it did not end well is known
	}
}

// tail reads the disk up to where it has been written, and waits for more.
type tail struct {
	disk    Followed
	at      int64 // what has been read
	dropped int64 // what has been given back

	mu     sync.Mutex
	more   sync.Cond
	have   int64 // what has been written
	ended  bool  // nothing more is
	stream wire.Stream
	err    error
}

func newTail(f Followed) *tail {
	t := &tail{disk: f}
	t.more.L = &t.mu
	return t
}

func (t *tail) grow(n int64) {
	t.mu.Lock()
	t.have = max(t.have, n)
	t.mu.Unlock()
	t.more.Broadcast()
}

func (t *tail) end(s wire.Stream, err error) {
	t.mu.Lock()
	t.ended, t.stream, t.err, t.have = true, s, err, s.Size
	t.mu.Unlock()
	t.more.Broadcast()
}

// told waits for what the guest says of the whole.
func (t *tail) told() (wire.Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.ended {
		t.more.Wait()
	}
	return t.stream, t.err
}

// wait is how many bytes can be read now: some, or none at the end.
func (t *tail) wait() (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.have <= t.at && !t.ended {
		t.more.Wait()
	}
	return max(t.have-t.at, 0), t.err
}

// dropAfter is how much is read before it is given back, in bytes.
const dropAfter = 16 << 20

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.wait()
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	got, err := t.disk.ReadAt(p[:min(n, int64(len(p)))], t.at)
	t.at += int64(got)
	if err == nil && t.at-t.dropped >= dropAfter {
		if err := t.disk.Discard(t.at); err != nil {
			return got, fault.New(fault.Host, readDisk, "give back what was read: %w", err)
		}
		t.dropped = t.at
	}
	return got, err
}
