package debian

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dirGetter serves an archive from a folder, as a mirror would.
type dirGetter string

func (d dirGetter) Get(_ context.Context, path, _ string, _ int64) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
}

// TestRealArchive resolves against a copy of bookworm's indexes in the folder BELLJAR_ARCHIVE (dists/bookworm/…), and
// compares with what apt would install into an empty system: BELLJAR_APT names a folder with ARCH/apt.conf whose
// dpkg status is empty and whose only source is the same suite. No test but this one needs either.
func TestRealArchive(t *testing.T) {
	dir, apt := os.Getenv("BELLJAR_ARCHIVE"), os.Getenv("BELLJAR_APT")
	if dir == "" {
		t.Skip("BELLJAR_ARCHIVE names no copy of an archive")
	}
	keys, err := Keyring()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ arch, roots string }{
		{"amd64", "make gcc libc6-dev acpica-tools python3 openssh-server iproute2 busybox-static passwd"},
		{"i386", "make gcc libc6-dev acpica-tools python3 openssh-server iproute2 busybox-static passwd"},
		{"amd64", "make g++ bison flex bc xz-utils swig python3-dev python3-setuptools python3-distutils libssl-dev nasm uuid-dev " +
			"gcc-i686-linux-gnu libc6-dev-i386-cross linux-image-amd64 build-essential debhelper ca-certificates man-db"},
		{"i386", "linux-image-686 build-essential debhelper git vim-tiny"},
	} {
		arch, roots := c.arch, strings.Fields(c.roots)
		t.Run(arch, func(t *testing.T) {
			start := time.Now()
			a, err := Load(t.Context(), dirGetter(dir), "bookworm", arch, keys)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("loaded %d names in %v, signed by %v", len(a.Index.Packages), time.Since(start), a.Release.Signers)
			start = time.Now()
			c, err := Resolve(a.Index, arch, roots, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d packages in %v", len(c.Packages), time.Since(start))
			s, err := a.FindSource(t.Context(), "seabios", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Log(*s)
			if apt == "" {
				return
			}
			var essential, got []string
			for _, p := range c.Packages {
				if p.Essential {
					essential = append(essential, p.Name)
				}
				got = append(got, p.Name+" "+p.Version)
			}
			want := aptWouldInstall(t, filepath.Join(apt, arch, "apt.conf"), append(append(essential, roots...), usrMerged))
			t.Logf("apt installs %d packages", len(want))
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("apt installs %s, the closure lacks it", w)
				}
			}
			for _, g := range got {
				if !slices.Contains(want, g) {
					t.Errorf("the closure has %s (%s), apt does not install it", g, c.Find(strings.Fields(g)[0]).Why)
				}
			}
		})
	}
}

func aptWouldInstall(t *testing.T, config string, names []string) []string {
	cmd := exec.CommandContext(t.Context(), "apt-get", append([]string{"install", "--no-install-recommends", "-s"}, names...)...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+config, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("apt-get: %v\n%s", err, out)
	}
	var all []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 2 && w[0] == "Inst" {
			all = append(all, w[1]+" "+strings.TrimPrefix(w[2], "("))
		}
	}
	slices.Sort(all)
	return all
}
