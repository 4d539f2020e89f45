package image

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// BenchmarkErofs reads and writes the root of a guest that is configured already, as the last step of making it does.
// Its store is the tests' (see testDebs); 'make test' or a build has put the image there.
func BenchmarkErofs(b *testing.B) {
	f, err := os.Open(configuredRoot(b))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	tr := mustTree(b, root(f))
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mustTree(b, root(f))
		}
	})
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		b.Logf("on %d processors", runtime.GOMAXPROCS(0))
		for b.Loop() {
			out := tempFile(b)
			size, err := writeErofs(context.Background(), out, tr, testClock)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			if err := os.Remove(out.Name()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// configuredRoot finds the largest configured root in the store.
func configuredRoot(b *testing.B) string {
	b.Helper()
	dir := os.Getenv("BELLJAR_TEST_DIR")
	if dir == "" {
		dir = "../.cache/test"
	}
	refs, err := filepath.Glob(filepath.Join(dir, "store/refs/images/*"))
	if err != nil {
		b.Fatal(err)
	}
	var best struct {
		Root string
		Size int64
	}
	for _, ref := range refs {
		one := best
		if data, err := os.ReadFile(ref); err != nil || json.Unmarshal(data, &one) != nil || one.Size <= best.Size {
			continue
		}
		best = one
	}
	if best.Root == "" {
		b.Fatalf("%s has no configured image; fill it: make test", dir)
	}
	return filepath.Join(dir, "store/objects", best.Root[:2], best.Root)
}
