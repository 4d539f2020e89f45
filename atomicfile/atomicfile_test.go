package atomicfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// only wants path to be the one file in its folder, with that text.
func only(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		t.Errorf("it reads %q (%v), want %q", got, err, text)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v (%v), want that file alone", entries, err)
	}
}

func TestWriteReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"old and longer", "new"} {
		if err := Write(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		only(t, path, text)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
		t.Errorf("mode %v (%v), want 0640", st.Mode(), err)
	}
}

func TestWriteFuncThatFailsLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("source broke")
	err := WriteFunc(path, 0o644, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the source's error", err)
	}
	only(t, path, "old")
}

func TestWriteWhereItCannot(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "file"), nil, 0o644); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, []byte("x"), 0o644); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

// TestMain lets this program be a writer that is to be killed in the middle.
func TestMain(m *testing.M) {
	if path := os.Getenv("ATOMICFILE_TEST_WRITE"); path != "" {
		_ = WriteFunc(path, 0o644, func(w io.Writer) error {
			_, _ = io.WriteString(w, "half")
			fmt.Println("half")
			select {}
		})
	}
	os.Exit(m.Run())
}

// A writer that is killed leaves the old file and nothing beside it, or what the next one removes: where a file system
// knows no files without a name, as a FUSE may.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_WRITE="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	only(t, path, "old")
}

// What killed writers left is removed; what a live one has, and what only looks alike, stays.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	alive := temporary(path)
	others := []string{".file.swp", ".file2.belljar-00", "file~", filepath.Base(alive)}
	for _, name := range append([]string{".file.belljar-00", ".file.belljar-0123456789abcdef"}, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(alive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := append([]string{"file"}, others...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

// Where there are no files without a name, a temporary one is written, and is gone afterwards.
func TestNamedTemporary(t *testing.T) {
	withoutName = func(string, string) (*os.File, error) { return nil, errors.New("not here") }
	defer func() { withoutName = openUnnamed }()
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"old", "new"} {
		if err := Write(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		only(t, path, text)
	}
	broken := errors.New("source broke")
	if err := WriteFunc(path, 0o644, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the source's error", err)
	}
	only(t, path, "new")
	f, err := Unnamed(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	only(t, path, "new")
}

func TestUnnamed(t *testing.T) {
	dir := t.TempDir()
	f, err := Unnamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the folder holds %v (%v), want nothing", entries, err)
	}
	if filepath.Dir(f.Name()) != dir {
		t.Errorf("its name %s does not say where it is", f.Name())
	}
}

// Writers side by side do not get in each other's way: the file is always one's whole.
func TestWritersSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				if err := Write(path, bytes.Repeat([]byte{byte('a' + i)}, 1000), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := os.ReadFile(path)
	if err != nil || len(got) != 1000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	only(t, path, strings.Repeat(string(got[:1]), 1000))
}
