package fetch

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fault/fulldisk"
	"github.com/belljar/belljar/store"
)

// A store without room: the host's fault, at once and not after all retries; and with room the fetch goes on where it
// stopped.
func TestFetchOnAFullDisk(t *testing.T) {
	fulldisk.Each(t, func(t *testing.T, d *fulldisk.Disk) {
		large := make([]byte, 3<<20) // three times what there is room for
		_, _ = rand.NewChaCha8([32]byte{2}).Read(large)
		it := item(large)
		it.Snapshot = ""
		web := serve(t, content(large))
		d.Leave(1 << 20)
		s, err := store.Open(filepath.Join(d.Dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		f := New(s, Mirrors{List: []Mirror{{URL: web.URL + "/debian", From: "test"}}})
		t.Cleanup(f.client.CloseIdleConnections)

		err = f.Fetch(t.Context(), []Item{it}, nil)
		says := map[fulldisk.How]string{fulldisk.Tmpfs: "disk full: ", fulldisk.Limit: "file too large for "}[d.How]
		wantFault(t, err, fault.Host, says, filepath.Join(d.Dir, "store"), "bytes needed")
		if n := web.requests.Load(); n != 1 {
			t.Errorf("%d requests, want 1: no retry helps a full disk", n)
		}
		left, err := filepath.Glob(filepath.Join(d.Dir, "store", "tmp", "*"))
		if s.Has(it.Digest) || len(left) > 0 || err != nil {
			t.Errorf("stored: %t, left: %v, %v", s.Has(it.Digest), left, err)
		}

		d.MakeRoom()
		if err := f.Fetch(t.Context(), []Item{it}, nil); err != nil {
			t.Fatalf("with room: %v", err)
		}
		if err := s.Verify(t.Context(), it.Digest); err != nil {
			t.Error(err)
		}
		left, err = filepath.Glob(filepath.Join(d.Dir, "store", "partial", "*"))
		if len(left) > 0 || err != nil {
			t.Errorf("partial: %v, %v", left, err)
		}
		if n := web.requests.Load(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		if last := web.ranges[len(web.ranges)-1]; !strings.HasPrefix(last, "bytes=") {
			t.Errorf("the second fetch began anew (Range %q)", last)
		}
	})
}
