package integration

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/belljar/belljar/specs"
)

// poolFile is a file of the archive that the shipped lock pins.
type poolFile struct {
	name, pool, sha256 string
	data               []byte
}

// smallestPackage is a real file that a build needs, out of the shared store.
func smallestPackage(t *testing.T) poolFile {
	t.Helper()
	rom(t) // fills the store
	spec, err := specs.Load("seabios")
	must(t, err)
	lock, err := specs.LoadLock(spec, "")
	must(t, err)
	var least specs.Package
	for _, p := range lock.Guests[guest64].Packages {
		if least.Size == 0 || p.Size < least.Size {
			least = p
		}
	}
	data, err := os.ReadFile(objectPath(sharedDir, least.SHA256))
	must(t, err)
	return poolFile{least.Name, least.Pool, least.SHA256, data}
}

func objectPath(dir, digest string) string {
	return filepath.Join(dir, "store", "objects", digest[:2], digest)
}

// flipped is data with one bit changed in its middle.
func flipped(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

// serveMirror is a mirror of one file; all else is not found.
func serveMirror(t *testing.T, path string, serve http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/debian/"+path, serve)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/debian"
}

// noSnapshot has the program find the snapshot archive out of reach: the proxy for https lets nobody through.
func noSnapshot(t *testing.T, b *belljar) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(s.Close)
	b.env = append(b.env, "HTTPS_PROXY="+s.URL, "https_proxy="+s.URL)
}

func content(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}
}

// cutOff promises the whole file and sends the first half of it, each time.
func cutOff(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// What a mirror can do wrong, each time with a clear word for it, and nothing wrong in the store.
func TestBadMirror(t *testing.T) {
	needMachines(t)
	f := smallestPackage(t)
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		code  int
		says  []string
	}{
		{"serves a wrong file", content(flipped(f.data)), 3, []string{"expected sha256 " + f.sha256, "got sha256", "Name another mirror"}},
		{"serves a file of another length", content(f.data[1:]), 3, []string{f.sha256, strconv.Itoa(len(f.data)-1) + " bytes"}},
		{"cuts off in the middle", cutOff(f.data), 4, []string{"cut off after", "it goes on where it stopped"}},
		{"has it not", http.NotFound, 4, []string{"404", "snapshot"}},
		{"is broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 4, []string{"500"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := onClone(t)
			noSnapshot(t, b)
			object := objectPath(b.dir, f.sha256)
			must(t, os.Remove(object))
			url := serveMirror(t, f.pool, c.serve)
			o := b.exit(c.code, "fetch", "seabios", "--guest", guest64, "--mirror", url, "--json")
			fail := o.failure(t)
			contains(t, "failure", fail.all(), append(c.says, f.name+"_", url)...)
			if fail.Remedy == "" {
				t.Error("no remedy")
			}
			if _, err := os.Stat(object); err == nil {
				t.Error("it is in the store all the same")
			}
			if left, _ := filepath.Glob(filepath.Join(b.dir, "store", "tmp", "*")); len(left) > 0 {
				t.Errorf("left in the store: %q", left)
			}
			// With a better mirror the same call goes well.
			good := serveMirror(t, f.pool, func(w http.ResponseWriter, r *http.Request) {
				http.ServeFile(w, r, objectPath(sharedDir, f.sha256))
			})
			b.succeed("fetch", "seabios", "--guest", guest64, "--mirror", good)
			if got := digestOf(t, object); got != f.sha256 {
				t.Errorf("in the store: %s", got)
			}
		})
	}
}

// An InRelease that was tampered with, or that is another suite's, is not believed.
func TestBadRelease(t *testing.T) {
	needMachines(t)
	real, err := os.ReadFile(filepath.Join(sources, "image", "debian", "testdata", "InRelease"))
	must(t, err)
	for _, c := range []struct {
		name string
		data []byte
		says []string
	}{
		{"tampered with", bytes.Replace(real, []byte("Version: 12"), []byte("Version: 13"), 1), []string{"signature does not match"}},
		{"cut off", real[:len(real)/2], []string{"not one complete clear-signed message"}},
		{"another suite's", real, []string{"bookworm-updates"}},
		{"not a release", []byte("<html>Welcome to the hotel's network</html>"), []string{"<html>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := onEmpty(t)
			noSnapshot(t, b)
			url := serveMirror(t, "dists/bookworm/InRelease", content(c.data))
			o := b.exit(3, "lock", "seabios", "--lock", "my.lock.json", "--mirror", url, "--json")
			contains(t, "failure", o.failure(t).all(), append(c.says, "InRelease", url)...)
			if _, err := os.Stat(filepath.Join(b.cwd, "my.lock.json")); err == nil {
				t.Error("a lock was written all the same")
			}
		})
	}
}

// A package that does not exist: the nearest names are told, out of the real archive.
func TestNoSuchPackage(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	text := strings.Replace(toySpec("typo", "      true"), "libc6-dev,", "libc6-dve,", 1)
	must(t, os.WriteFile(filepath.Join(b.cwd, "typo.yaml"), []byte(text), 0o644))
	o := b.exit(3, "lock", "./typo.yaml", "--json")
	contains(t, "failure", o.failure(t).all(), `no package "libc6-dve"`, "libc6-dev", "stage build")
	if _, err := os.Stat(filepath.Join(b.cwd, "typo.lock.json")); err == nil {
		t.Error("a lock was written all the same")
	}
}
