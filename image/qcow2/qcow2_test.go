package qcow2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// sample is a disk with all that the writer tells apart: zeros, text, noise, and an end within a cluster.
func sample(size int64) []byte {
	r := rand.New(rand.NewChaCha8([32]byte{1}))
	b := make([]byte, size)
	for off := int64(0); off < size; off += cluster {
		part := b[off:min(off+cluster, size)]
		switch r.IntN(5) {
		case 0, 1:
		case 2: // noise: stored as it is
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 3: // half noise: large, compressed
			for i := range part[:len(part)/2] {
				part[i] = byte(r.Uint32())
			}
		case 4:
			copy(part, bytes.Repeat([]byte("belljar "), r.IntN(4000)+1))
		}
	}
	return b
}

func write(t *testing.T, disk io.ReaderAt, size int64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	told, err := Write(t.Context(), f, disk, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != told {
		t.Fatalf("%d bytes on disk, %d told (%v)", info.Size(), told, err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tool runs a foreign tool that 'make setup-test' installs.
func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func TestQEMUReadsWhatWasWritten(t *testing.T) {
	sizes := map[string]int64{
		"one sector": sector, "one cluster": cluster, "part of a cluster": 5*cluster + 3*sector,
		"many clusters": 500 * cluster, "two L2 tables": (l2Entries + 40) * cluster,
	}
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			raw := filepath.Join(t.TempDir(), "disk.raw")
			f, err := os.Create(raw)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.WriteAt(sample(min(size, 600*cluster)), 0)
			f.WriteAt([]byte("the end"), size-sector)
			if err := f.Truncate(size); err != nil {
				t.Fatal(err)
			}
			path := write(t, f, size)
			var check map[string]any
			if err := json.Unmarshal(tool(t, "qemu-img", "check", "--output=json", path), &check); err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"corruptions", "leaks", "check-errors"} {
				if n, ok := check[bad]; ok && n != 0.0 {
					t.Errorf("qemu-img check: %s: %v", bad, n)
				}
			}
			tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)
		})
	}
}

func TestSameDiskSameBytes(t *testing.T) {
	disk := bytes.NewReader(sample(300 * cluster))
	first := read(t, write(t, disk, disk.Size()))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if second := read(t, write(t, disk, disk.Size())); !bytes.Equal(first, second) {
		t.Error("one core and all cores make different images")
	}
}

func TestZerosTakeNoRoom(t *testing.T) {
	image := read(t, write(t, bytes.NewReader(make([]byte, 1000*cluster)), 1000*cluster))
	// Header, L1 table, table and block of reference counts: not even an L2 table.
	if len(image) != 4*cluster {
		t.Errorf("an empty disk takes %d clusters, want 4", len(image)/cluster)
	}
}

func TestReferenceCountsCoverThemselves(t *testing.T) {
	// The table and its blocks must be among what is counted, also where they just reach into another block.
	for _, n := range []int64{
		1, refEntries - 3, refEntries - 2, refEntries - 1, refEntries, 3*refEntries - 4, 3 * refEntries,
	} {
		w := &writer{out: nowhere{}}
		w.take(n * cluster)
		at, clusters, err := w.refcounts()
		if err != nil {
			t.Fatal(err)
		}
		blocks := (int64(len(w.refs)) + refEntries - 1) / refEntries
		if at != n*cluster || w.end != (n+clusters+blocks)*cluster || int64(len(w.refs))*cluster != w.end {
			t.Errorf("%d clusters: table at %d, end at %d, %d counts", n, at/cluster, w.end/cluster, len(w.refs))
		}
		if slices.ContainsFunc(w.refs, func(c uint16) bool { return c != 1 }) {
			t.Errorf("%d clusters: not each is counted once", n)
		}
	}
}

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestRefusals(t *testing.T) {
	for name, size := range map[string]int64{"empty": 0, "no sectors": 1000, "too large": MaxSize + sector} {
		if _, err := Write(t.Context(), nowhere{}, bytes.NewReader(nil), size, Options{}); err == nil {
			t.Errorf("%s: a disk of %d bytes was taken", name, size)
		}
	}
	short := bytes.NewReader(make([]byte, 100))
	if _, err := Write(t.Context(), nowhere{}, short, cluster, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a disk that is cut off: %v", err)
	}
}

func TestErrorsOfTheDiskComeThrough(t *testing.T) {
	full := errors.New("full")
	for after := range int64(6) {
		w := &fills{left: after * cluster, err: full}
		disk := bytes.NewReader(sample(64 * cluster))
		if _, err := Write(t.Context(), w, disk, disk.Size(), Options{}); !errors.Is(err, full) {
			t.Errorf("full after %d clusters: %v", after, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, nowhere{}, bytes.NewReader(sample(cluster)), cluster, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type fills struct {
	left int64
	err  error
}

func (f *fills) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= int64(len(p)); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}
