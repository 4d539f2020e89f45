package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

func TestClaim(t *testing.T) {
	s := open(t)
	var inside, most, made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			release, err := s.Claim(t.Context(), "images", "a", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inside.Add(-1)
			var v int
			if ok, _ := s.Lookup("images", "a", &v); ok {
				return
			}
			made.Add(1)
			time.Sleep(20 * time.Millisecond)
			if err := s.Bind("images", "a", 1); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 || made.Load() != 1 {
		t.Errorf("%d at once, made %d times; want 1 and 1", most.Load(), made.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), "claims", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestClaimWaits(t *testing.T) {
	s := open(t)
	release, err := s.Claim(t.Context(), "images", "a/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	other, err := s.Claim(t.Context(), "images", "c", func() { t.Error("another name is waited for") })
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(t.Context())
	waited := false
	_, err = s.Claim(ctx, "images", "a/b", func() { waited = true; cancel() })
	if !waited || !errors.Is(err, context.Canceled) {
		t.Errorf("waited is %t, the error %v; want true and %v", waited, err, context.Canceled)
	}
}

func TestClaimWithoutAFolder(t *testing.T) {
	s := open(t)
	if err := os.RemoveAll(filepath.Join(s.Dir(), "claims")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), "images", "a", nil); fault.KindOf(err) != fault.Host {
		t.Errorf("got %v, want a host fault", err)
	}
}

// A claim whose owner was killed leaves an empty file, which the next Open removes; so is a download that nobody has
// gone on with for weeks. What is alive stays.
func TestOpenSweepsClaimsAndOldDownloads(t *testing.T) {
	s := open(t)
	release, err := s.Claim(t.Context(), "images", "alive", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	old := time.Now().Add(-2 * partialAge)
	for _, name := range []string{"claims/images-dead", "partial/young", "partial/old"} {
		path := filepath.Join(s.Dir(), name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if name != "partial/young" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if got := append(files(t, s, "claims"), files(t, s, "partial")...); len(got) != 2 {
		t.Errorf("left: %q, want the claim that is alive and the young download", got)
	}
	again, err := s.Claim(t.Context(), "images", "dead", func() { t.Error("a dead claim is waited for") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// Whoever only looks whether a claim is free is not taken for one who makes something.
func TestClaimBearsWithASweep(t *testing.T) {
	s := open(t)
	var all sync.WaitGroup
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.sweep()
			}
		}
	})
	for range 200 {
		release, err := s.Claim(t.Context(), "images", "a", func() { t.Error("waits for a sweep") })
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	close(stop)
	all.Wait()
}
