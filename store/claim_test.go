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
