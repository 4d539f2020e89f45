package provision

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// outputDisk writes an archive to a disk file, with the Result that a right agent would send.
func outputDisk(t *testing.T, members ...tar.Header) (string, wire.Result) {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	var res wire.Result
	for _, h := range members {
		data := []byte("content of " + h.Name)
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		res.Files = append(res.Files, wire.File{Path: h.Name, Size: h.Size, SHA256: sha(data)})
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	res.Stream = wire.Stream{Size: int64(buf.Len()), SHA256: sha(buf.Bytes())}
	disk := filepath.Join(t.TempDir(), "outputs")
	// What an earlier stage left behind the archive is none of its.
	if err := os.WriteFile(disk, append(buf.Bytes(), bytes.Repeat([]byte("old"), 4096)...), 0o644); err != nil {
		t.Fatal(err)
	}
	return disk, res
}

// onDisk is a guest's disk that is a file.
func onDisk(path string) Disk {
	return func(context.Context, int64) (io.ReadCloser, error) { return os.Open(path) }
}

func two() []tar.Header { return []tar.Header{{Name: "a"}, {Name: "b/c"}} }

func TestReadOutputs(t *testing.T) {
	disk, res := outputDisk(t, two()...)
	got := map[string]string{}
	if err := ReadOutputs(t.Context(), onDisk(disk), res, keep(got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["a"] != "content of a" || got["b/c"] != "content of b/c" {
		t.Errorf("outputs = %v", got)
	}
	if err := ReadOutputs(t.Context(), onDisk("/nonexistent"), wire.Result{}, nil); err != nil {
		t.Error("a stage without outputs needs no disk:", err)
	}
}

func TestReadOutputsRefuses(t *testing.T) {
	link := []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}
	tests := map[string]struct {
		members []tar.Header
		change  func(t *testing.T, disk string, res *wire.Result)
		kind    fault.Kind
		words   string
	}{
		"flipped byte in content": {two(), func(t *testing.T, disk string, _ *wire.Result) { flip(t, disk, 515) }, fault.Guest, "SHA-256"},
		"flipped byte in header":  {two(), func(t *testing.T, disk string, _ *wire.Result) { flip(t, disk, 3) }, fault.Guest, "SHA-256"},
		"flipped byte in padding": {two(), func(t *testing.T, disk string, _ *wire.Result) { flip(t, disk, 1000) }, fault.Guest, "SHA-256"},
		"flipped byte in the end": {two(), func(t *testing.T, disk string, _ *wire.Result) { flip(t, disk, 2500) }, fault.Guest, "SHA-256"},
		"hash of a file":          {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Files[1].SHA256 = sha(nil) }, fault.Guest, `"b/c" has SHA-256`},
		"size of a file":          {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Files[0].Size++ }, fault.Guest, `"a" has 12 bytes`},
		"other name":              {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Files[0].Path = "z" }, fault.Guest, `"z"`},
		"one too many on disk":    {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Files = r.Files[:1] }, fault.Guest, `"b/c" is on the disk`},
		"one too few on disk": {two(), func(_ *testing.T, _ string, r *wire.Result) {
			r.Files = append(r.Files, wire.File{Path: "d"})
		}, fault.Guest, `"d" is in the guest's list`},
		"size of the stream":  {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Stream.Size -= 512 }, fault.Guest, "bytes with SHA-256"},
		"beyond the disk":     {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Stream.Size = 1 << 40 }, fault.Guest, "the guest wrote 1099511627776"},
		"negative size":       {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Stream.Size = -1 }, fault.Guest, "-1 bytes"},
		"path above":          {two(), func(_ *testing.T, _ string, r *wire.Result) { r.Files[0].Path = "../a" }, fault.Guest, `"../a"`},
		"absolute path":       {[]tar.Header{{Name: "/etc/passwd"}}, nil, fault.Guest, "/etc/passwd"},
		"symlink":             {link, nil, fault.Guest, "not a regular file"},
		"no disk":             {two(), func(t *testing.T, disk string, _ *wire.Result) { os.Remove(disk) }, fault.Host, "no such file"},
		"truncated disk file": {two(), func(t *testing.T, disk string, _ *wire.Result) { os.Truncate(disk, 700) }, fault.Guest, "the archive on it has 700 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			disk, res := outputDisk(t, tt.members...)
			if tt.change != nil {
				tt.change(t, disk, &res)
			}
			wantFault(t, ReadOutputs(t.Context(), onDisk(disk), res, keep(map[string]string{})), tt.kind, tt.words)
		})
	}
}

func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadOutputsKeeper(t *testing.T) {
	disk, res := outputDisk(t, two()...)
	t.Run("keeps something else", func(t *testing.T) {
		err := ReadOutputs(t.Context(), onDisk(disk), res, func(_ string, _ int64, r io.Reader) (string, error) { return sha(nil), nil })
		wantFault(t, err, fault.Host, "was kept with SHA-256")
	})
	t.Run("cannot", func(t *testing.T) {
		full := errors.New("disk full")
		err := ReadOutputs(t.Context(), onDisk(disk), res, func(string, int64, io.Reader) (string, error) { return "", full })
		if !errors.Is(err, full) {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ReadOutputs(ctx, onDisk(disk), res, keep(map[string]string{})); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestCopyStream(t *testing.T) {
	disk, res := outputDisk(t, two()...)
	var got bytes.Buffer
	if err := CopyStream(t.Context(), onDisk(disk), res.Stream, &got); err != nil {
		t.Fatal(err)
	}
	if sha(got.Bytes()) != res.Stream.SHA256 {
		t.Error("other bytes")
	}
	flip(t, disk, 100)
	wantFault(t, CopyStream(t.Context(), onDisk(disk), res.Stream, io.Discard), fault.Guest, "bytes with SHA-256")
}

// What ended the context is what the user hears of: a watcher of the console knows more than the agent.
func TestCauseOfTheEnd(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	panicked := fault.New(fault.Guest, "guest", "kernel panic")
	ctx, stop := context.WithCancelCause(t.Context())
	_, err := s.Run(ctx, g.stage("echo up; sleep 1000"), func(string) { stop(panicked) })
	wantFault(t, err, fault.Guest, "kernel panic")
}
