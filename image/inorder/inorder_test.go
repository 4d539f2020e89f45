package inorder

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestResultsComeInOrder(t *testing.T) {
	type job struct{ n, square int }
	var got []int
	q := New(t.Context(), func(j *job) error {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		j.square = j.n * j.n
		return nil
	}, func(j *job) error {
		got = append(got, j.square)
		return nil
	})
	var want []int
	for n := range 200 {
		want = append(want, n*n)
		if err := q.Put(job{n: n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestAnErrorEndsIt(t *testing.T) {
	broken := errors.New("broken")
	nothing := func(*int) error { return nil }
	breaks := func(n *int) error {
		if *n == 3 {
			return broken
		}
		return nil
	}
	for name, fns := range map[string][2]func(*int) error{"work": {breaks, nothing}, "take": {nothing, breaks}} {
		t.Run(name, func(t *testing.T) {
			q := New(t.Context(), fns[0], fns[1])
			for n := range 1000 {
				if err := q.Put(n); err != nil {
					if !errors.Is(err, broken) {
						t.Errorf("Put says %v", err)
					}
					break
				}
			}
			if err := q.Close(); !errors.Is(err, broken) {
				t.Errorf("Close says %v, want the first error", err)
			}
		})
	}
}

func TestNothingIsTakenAfterAnError(t *testing.T) {
	var taken atomic.Int64
	q := New(t.Context(), func(*int) error { return nil }, func(n *int) error {
		taken.Add(1)
		return errors.New("full")
	})
	for n := range 10 {
		_ = q.Put(n)
	}
	_ = q.Close()
	if taken.Load() != 1 {
		t.Errorf("%d items were taken, want the first alone", taken.Load())
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	q := New(ctx, func(*int) error { <-ctx.Done(); return nil }, func(*int) error { return nil })
	_ = q.Put(1)
	cancel()
	for err := q.Put(2); !errors.Is(err, context.Canceled); err = q.Put(2) { // it may win the race some times
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
