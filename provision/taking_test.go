package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// followedFile is a disk whose given back bytes are gone.
type followedFile struct {
	*os.File
	dropped int64
	broken  error
}

func (f *followedFile) Discard(n int64) error {
	_, err := f.WriteAt(make([]byte, n-f.dropped), f.dropped)
	f.dropped = n
	return errors.Join(err, f.broken)
}

// following opens a disk's file as one to follow.
func following(t *testing.T, disk string) (*followedFile, func() (Followed, error)) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &followedFile{File: f}
	return d, func() (Followed, error) { return d, nil }
}

func noDisk(context.Context, int64) (io.ReadCloser, error) {
	return nil, errors.New("it is not read again")
}

// Large outputs are in the host before the agent says that it is done, and the disk is given back behind them.
func TestTakeWhileItIsWritten(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	const n = 100 << 20
	f, follow := following(t, g.disk())
	sum := sha256.New()
	var mode uint32
	taking := TakeOutputs(t.Context(), noDisk, follow, []string{"big", "small"}, func(o Output, r io.Reader) error {
		if o.Path == "big" {
			mode = o.Mode
			_, err := io.Copy(sum, r)
			return err
		}
		_, err := io.Copy(io.Discard, r)
		return err
	})
	st := g.stage("head -c 104857600 /dev/urandom >$OUT/big; chmod 755 $OUT/big; echo little >$OUT/small", "big", "small")
	res, err := s.RunTaking(t.Context(), st, nil, taking)
	if err != nil {
		t.Fatal(err)
	}
	if taking.tail == nil {
		t.Fatal("nothing was taken before the end")
	}
	if err := taking.End(res.Stream); err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	made, err := os.Open(filepath.Join(st.OutDir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if wrote, err := io.Copy(want, made); err != nil || wrote != n {
		t.Fatalf("%d bytes: %v", wrote, err)
	}
	if mode != 0o755 || string(sum.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("mode %o, or other bytes than the stage made", mode)
	}
	if f.dropped < n-dropAfter || f.dropped > res.Stream.Size {
		t.Errorf("%d bytes of %d were given back", f.dropped, res.Stream.Size)
	}
}

// A stage that fails after it began to write leaves nobody waiting, and nothing that is believed.
func TestTakingStops(t *testing.T) {
	disk, _ := outputDisk(t, two()...)
	_, follow := following(t, disk)
	ended := make(chan error, 1)
	taking := TakeOutputs(t.Context(), noDisk, follow, []string{"a", "b/c"}, func(_ Output, r io.Reader) error {
		_, err := io.ReadAll(r)
		ended <- err
		return err
	})
	taking.Written(100) // in the middle of the first
	taking.Stop()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("half an output was taken for a whole one")
		}
	default: // it had not begun
	}
	TakeOutputs(t.Context(), noDisk, nil, nil, nil).Stop() // one that never began
}

func TestTaking(t *testing.T) {
	full := errors.New("no room")
	for name, tc := range map[string]struct {
		written []int64
		follow  error                                           // why the disk cannot be followed
		change  func(t *testing.T, disk string, s *wire.Stream) // what is wrong
		put     error
		want    string // of the error; empty: none
		kind    fault.Kind
	}{
		"in pieces":           {written: []int64{1, 50, 51, 40, 200}},
		"all of it":           {written: []int64{1 << 40}},
		"nothing said":        {},
		"not to be followed":  {written: []int64{50}, follow: errors.New("no such disk")},
		"more than there is":  {written: []int64{1 << 40}, change: func(_ *testing.T, disk string, _ *wire.Stream) { _ = os.Truncate(disk, 150) }, want: "frame", kind: fault.Guest},
		"another digest":      {written: []int64{50}, change: func(_ *testing.T, _ string, s *wire.Stream) { s.Digest++ }, want: "with digest", kind: fault.Guest},
		"shorter in the end":  {written: []int64{200}, change: func(_ *testing.T, _ string, s *wire.Stream) { s.Size = 150 }, want: "frame", kind: fault.Guest},
		"longer in the end":   {written: []int64{200}, change: func(_ *testing.T, _ string, s *wire.Stream) { s.Size += 10 }, want: "with digest", kind: fault.Guest},
		"damaged":             {written: []int64{200}, change: func(t *testing.T, disk string, _ *wire.Stream) { flip(t, disk, 172) }, want: "frame", kind: fault.Guest},
		"no room on the host": {written: []int64{1 << 40}, put: full, want: "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			disk, s := outputDisk(t, two()...)
			if tc.change != nil {
				tc.change(t, disk, &s)
			}
			_, follow := following(t, disk)
			if tc.follow != nil {
				follow = func() (Followed, error) { return nil, tc.follow }
			}
			got := map[string]string{}
			taking := TakeOutputs(t.Context(), onDisk(disk), follow, []string{"a", "b/c"}, func(o Output, r io.Reader) error {
				return errors.Join(keep(got)(o, r), tc.put)
			})
			for _, n := range tc.written {
				taking.Written(n)
			}
			err := taking.End(s)
			switch {
			case tc.put != nil && errors.Is(err, tc.put):
			case tc.want != "":
				wantFault(t, err, tc.kind, tc.want)
			case err != nil || got["a 644"] != "content of a" || got["b/c 644"] != "content of b/c":
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestTailGivesBack(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 3*dropAfter), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _ := following(t, disk)
	defer f.Close()
	r := newTail(f)
	r.grow(2*dropAfter + 7)
	buf := make([]byte, 1<<20)
	for range 2 * dropAfter / len(buf) {
		if _, err := io.ReadFull(r, buf); err != nil {
			t.Fatal(err)
		}
	}
	if f.dropped != 2*dropAfter {
		t.Errorf("%d bytes were given back", f.dropped)
	}
	f.broken = errors.New("read-only")
	r.grow(3 * dropAfter)
	_, err := io.Copy(io.Discard, r)
	wantFault(t, err, fault.Host, "read-only")
}
