package debian

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestRealDebs compares the reader with dpkg-deb on every package in the folder BELLJAR_DEBS names, and says how fast it is.
func TestRealDebs(t *testing.T) {
	dir := os.Getenv("BELLJAR_DEBS")
	if dir == "" {
		t.Skip("BELLJAR_DEBS names no folder with .debs")
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no .deb: %v", dir, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) { compareWithDpkgDeb(t, name) })
	}
}

func compareWithDpkgDeb(t *testing.T, name string) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start, total := time.Now(), int64(0)
	d, err := OpenDeb(f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, d)
		if err != nil {
			t.Fatal(err)
		}
		total += n
		got = append(got, fmt.Sprintf("%s %c %o %d:%d %d %s %x", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, n, h.ModTime.UTC(), sum.Sum(nil)))
	}
	t.Logf("%d entries, %.1f MB, %v", len(got), float64(total)/1e6, time.Since(start).Round(time.Millisecond))

	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tr, i := tar.NewReader(out), 0
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		n, _ := io.Copy(sum, tr)
		clean, err := cleanPath(h.Name)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%s %c %o %d:%d %d %s %x", clean, h.Typeflag, h.Mode, h.Uid, h.Gid, n, h.ModTime.UTC(), sum.Sum(nil))
		if i >= len(got) || got[i] != want {
			t.Fatalf("entry %d differs from dpkg-deb's %s", i, want)
		}
		i++
	}
	if i != len(got) {
		t.Fatalf("%d entries, dpkg-deb has %d", len(got), i)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
