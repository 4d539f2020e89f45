package debian

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRealUnpack compares the dpkg database entries with those that dpkg itself leaves after --unpack, for every package
// in the folder BELLJAR_DEBS names. A package whose preinst fails outside its root is passed over.
func TestRealUnpack(t *testing.T) {
	dir := os.Getenv("BELLJAR_DEBS")
	if dir == "" {
		t.Skip("BELLJAR_DEBS names no folder with .debs")
	}
	if os.Getuid() != 0 {
		t.Skip("dpkg --unpack needs root")
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no .deb: %v", dir, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) { compareWithDpkgUnpack(t, name) })
	}
}

func compareWithDpkgUnpack(t *testing.T, name string) {
	root := t.TempDir()
	db := filepath.Join(root, "var/lib/dpkg")
	for _, d := range []string{"info", "updates"} {
		if err := os.MkdirAll(filepath.Join(db, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(db, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("dpkg", "--root="+root, "--force-all", "--force-script-chrootless", "--unpack", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DPKG_ROOT="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "pre-installation script") {
			t.Skip("its preinst does not run outside its root")
		}
		t.Fatalf("dpkg: %v\n%s", err, out)
	}

	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := OpenDeb(f)
	if err != nil {
		t.Fatal(err)
	}
	conffiles, err := ParseConffiles(name, d.Control()["conffiles"])
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for {
		h, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, h.Name)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if fi, err := os.Lstat(filepath.Join(root, conffiles.UnpackedName(h.Name))); err != nil || fi.Size() != h.Size {
			t.Errorf("dpkg did not write %s: %v", conffiles.UnpackedName(h.Name), err)
		}
	}
	got, err := StatusParagraph(d.Control()["control"], conffiles)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(db, "status"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("status differs\ngot:\n%s\nwant:\n%s", got, want)
	}
	infos, err := InfoFiles(d, paths)
	if err != nil {
		t.Fatal(err)
	}
	infos = append(infos, InfoFile{"format", 0o644, []byte(InfoFormat)})
	left, err := os.ReadDir(filepath.Join(db, "info"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		i := slices.IndexFunc(infos, func(f InfoFile) bool { return f.Name == e.Name() })
		if i < 0 {
			t.Errorf("dpkg writes info/%s", e.Name())
			continue
		}
		compareFile(t, filepath.Join(db, "info", e.Name()), infos[i])
		infos = slices.Delete(infos, i, i+1)
	}
	if len(infos) > 0 {
		t.Errorf("dpkg does not write %v", infos)
	}
}

func compareFile(t *testing.T, name string, got InfoFile) {
	t.Helper()
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got.Data) || fi.Mode() != got.Mode {
		t.Errorf("%s: mode %v, dpkg's %v; %d bytes, dpkg's %d", got.Name, got.Mode, fi.Mode(), len(got.Data), len(want))
	}
}
