package provision

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// written is a member as a test writes it; a file holds 'content of ' and its path.
type written = stream.Member

// outputDisk writes a stream to a disk file, and says of it what a right agent would say.
func outputDisk(t *testing.T, members ...written) (string, wire.Stream) {
	t.Helper()
	var buf bytes.Buffer
	w := stream.NewWriter(&buf)
	for _, m := range members {
		data := []byte("content of " + m.Path)
		if m.Type == stream.File && m.Size == 0 {
			m.Size = int64(len(data))
		}
		if err := w.Member(m); err != nil {
			t.Fatal(err)
		}
		if m.Type == stream.File {
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	total, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "outputs")
	// What an earlier stage left behind the stream is none of its.
	if err := os.WriteFile(disk, append(buf.Bytes(), bytes.Repeat([]byte("old"), 4096)...), 0o644); err != nil {
		t.Fatal(err)
	}
	return disk, wire.Stream{Size: total.Size, Digest: total.Digest}
}

func file(path string) written { return written{Path: path, Type: stream.File, Mode: 0o644} }

// onDisk is a guest's disk that is a file.
func onDisk(path string) Disk {
	return func(context.Context, int64) (io.ReadCloser, error) { return os.Open(path) }
}

func two() []written { return []written{file("a"), file("b/c")} }

func folder(more ...written) []written {
	return append([]written{{Path: "t", Type: stream.Dir, Mode: 0o755}}, more...)
}

func TestReadOutputs(t *testing.T) {
	disk, s := outputDisk(t, two()...)
	got := map[string]string{}
	if err := ReadOutputs(t.Context(), onDisk(disk), []string{"b/c", "a", "a"}, s, keep(got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["a 644"] != "content of a" || got["b/c 644"] != "content of b/c" {
		t.Errorf("outputs = %v", got)
	}
	if err := ReadOutputs(t.Context(), onDisk("/nonexistent"), nil, wire.Stream{}, nil); err != nil {
		t.Error("a stage without outputs needs no disk:", err)
	}
}

// A folder comes as an archive of which every byte is known.
func TestReadFolder(t *testing.T) {
	disk, s := outputDisk(t, append([]written{file("a")}, folder(
		written{Path: "t/bin", Type: stream.Dir, Mode: 0o755}, written{Path: "t/bin/cc", Type: stream.File, Mode: 0o755},
		written{Path: "t/bin/gcc", Type: stream.HardLink, Mode: 0o755, Link: "t/bin/cc"},
		written{Path: "t/lib", Type: stream.Symlink, Mode: 0o777, Link: "bin"}, file("t0"))...)...)
	for round := range 2 {
		got := map[string]string{}
		if err := ReadOutputs(t.Context(), onDisk(disk), []string{"a", "t/", "t0"}, s, keep(got)); err != nil {
			t.Fatal(err)
		}
		var list []string
		tr := tar.NewReader(strings.NewReader(got["t/ 755"]))
		for {
			h, err := tr.Next()
			if err != nil {
				break
			}
			data, _ := io.ReadAll(tr)
			list = append(list, fmt.Sprintf("%c %o %d:%d %s %s %d %q", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name, h.Linkname, h.ModTime.Unix(), data))
		}
		want := []string{
			`5 755 0:0 ./  0 ""`, `5 755 0:0 bin/  0 ""`, `0 755 0:0 bin/cc  0 "content of t/bin/cc"`, `1 755 0:0 bin/gcc bin/cc 0 ""`,
			`2 777 0:0 lib bin 0 ""`,
		}
		if strings.Join(list, "\n") != strings.Join(want, "\n") {
			t.Errorf("round %d: got\n%s\nwant\n%s", round, strings.Join(list, "\n"), strings.Join(want, "\n"))
		}
		if got["t0 644"] == "" || got["a 644"] == "" {
			t.Errorf("what lies beside the folder: %v", got)
		}
	}
}

func TestReadOutputsRefuses(t *testing.T) {
	ab := []string{"a", "b/c"}
	tests := map[string]struct {
		members []written
		ask     []string
		change  func(t *testing.T, disk string, s *wire.Stream)
		kind    fault.Kind
		words   string
	}{
		"flipped byte in content": {two(), ab, func(t *testing.T, disk string, _ *wire.Stream) { flip(t, disk, 160) }, fault.Guest, `in "a" after 0 bytes of it`},
		"flipped byte in a head":  {two(), ab, func(t *testing.T, disk string, _ *wire.Stream) { flip(t, disk, 16) }, fault.Guest, "frame 0 at byte 0"},
		"one too many on disk":    {two(), ab[:1], nil, fault.Guest, `"b/c" is on the disk, and nobody asked for it`},
		"one too few on disk":     {two(), append(ab, "d"), nil, fault.Guest, "fewer members"},
		"another name":            {two(), []string{"a", "b/d"}, nil, fault.Guest, `it has "b/c" where output b/d should be`},
		"shorter than told":       {two(), ab, func(_ *testing.T, _ string, s *wire.Stream) { s.Size++ }, fault.Guest, "the guest wrote"},
		"longer than told":        {two(), ab, func(_ *testing.T, _ string, s *wire.Stream) { s.Size -= 8 }, fault.Guest, "cut off after 16 of 24 bytes"},
		"another digest":          {two(), ab, func(_ *testing.T, _ string, s *wire.Stream) { s.Digest++ }, fault.Guest, "digest"},
		"beyond the disk":         {two(), ab, func(_ *testing.T, _ string, s *wire.Stream) { s.Size = 1 << 40 }, fault.Guest, "the guest wrote 1099511627776"},
		"negative size":           {two(), ab, func(_ *testing.T, _ string, s *wire.Stream) { s.Size = -1 }, fault.Guest, "-1 bytes"},
		"no disk":                 {two(), ab, func(t *testing.T, disk string, _ *wire.Stream) { os.Remove(disk) }, fault.Host, "no such file"},
		"truncated disk file":     {two(), ab, func(t *testing.T, disk string, _ *wire.Stream) { os.Truncate(disk, 160) }, fault.Guest, `in "a" after 0 bytes of it: the stream is cut off after`},
		"folder for a file":       {folder(), []string{"t"}, nil, fault.Guest, "output t is of another type"},
		"file for a folder":       {[]written{file("t")}, []string{"t/"}, nil, fault.Guest, "output t/ is of another type"},
		"link for a file":         {[]written{{Path: "a", Type: stream.Symlink, Link: "/etc/passwd"}}, []string{"a"}, nil, fault.Guest, "another type"},
		"length untold":           {[]written{{Path: "a", Type: stream.File, Size: stream.Unknown}}, []string{"a"}, nil, fault.Guest, "length of output a is not told"},
		"link out of a folder":    {folder(written{Path: "t/l", Type: stream.Symlink, Link: "../x"}), []string{"t/"}, nil, fault.Guest, "the link t/l leads out of it, to ../x"},
		"link to another output":  {append([]written{file("a")}, folder(written{Path: "t/l", Type: stream.HardLink, Link: "a"})...), []string{"a", "t/"}, nil, fault.Guest, "t/l is a link to a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			disk, s := outputDisk(t, tt.members...)
			if tt.change != nil {
				tt.change(t, disk, &s)
			}
			err := ReadOutputs(t.Context(), onDisk(disk), tt.ask, s, keep(map[string]string{}))
			wantFault(t, err, tt.kind, tt.words)
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
	disk, s := outputDisk(t, append([]written{file("a")}, folder(file("t/b"))...)...)
	ask := []string{"a", "t/"}
	full := errors.New("disk full")
	for _, at := range ask {
		t.Run("cannot keep "+at, func(t *testing.T) {
			err := ReadOutputs(t.Context(), onDisk(disk), ask, s, func(o Output, _ io.Reader) error {
				if o.Path == at {
					return full
				}
				return nil
			})
			if !errors.Is(err, full) {
				t.Error(err)
			}
		})
	}
	t.Run("leaves all unread", func(t *testing.T) {
		err := ReadOutputs(t.Context(), onDisk(disk), ask[:1], s, func(Output, io.Reader) error { return nil })
		wantFault(t, err, fault.Guest, "nobody asked for it")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ReadOutputs(ctx, onDisk(disk), ask, s, keep(map[string]string{})); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestCopyStream(t *testing.T) {
	disk, s := outputDisk(t, file("archive.tar"))
	var got bytes.Buffer
	if err := CopyStream(t.Context(), onDisk(disk), s, &got); err != nil {
		t.Fatal(err)
	}
	if got.String() != "content of archive.tar" {
		t.Errorf("got %q", got.String())
	}
	full := errors.New("no room")
	wantFault(t, CopyStream(t.Context(), onDisk(disk), s, broken{full}), fault.Host, "no room")
	flip(t, disk, 172)
	wantFault(t, CopyStream(t.Context(), onDisk(disk), s, io.Discard), fault.Guest, `in "archive.tar" after 0 bytes`)
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// What ended the context is what the user hears of: a watcher of the console knows more than the agent.
func TestCauseOfTheEnd(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	panicked := fault.New(fault.Guest, "guest", "kernel panic")
	ctx, stop := context.WithCancelCause(t.Context())
	_, err := s.Run(ctx, g.stage("echo up; sleep 1000"), func(string) { stop(panicked) })
	wantFault(t, err, fault.Guest, "kernel panic")
}
