package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		kind  Kind
		name  string
		again bool
	}{
		{Unknown, "internal error", false},
		{Usage, "usage", false},
		{Input, "input fault", false},
		{Host, "host fault", true},
		{Guest, "guest fault", true},
		{Build, "build failure", false},
		{Smoke, "smoke failure", false},
		{-1, "internal error", false},
		{Smoke + 1, "internal error", false},
	} {
		if c.kind.String() != c.name || c.kind.Retryable() != c.again {
			t.Errorf("kind %d: %q, retryable %t; want %q, %t", c.kind, c.kind, c.kind.Retryable(), c.name, c.again)
		}
	}
}

func TestKindOfAndChain(t *testing.T) {
	plain := errors.New("plain")
	host, guest := New(Host, "disk", "full"), New(Guest, "boot", "panic")
	inside := New(Input, "lock", "%w", errors.Join(guest, host))
	outer := New(Build, "stage", "it broke: %w", fmt.Errorf("wrapped: %w", guest))
	for _, c := range []struct {
		name  string
		err   error
		kind  Kind
		chain []*Error
	}{
		{"none", nil, Unknown, nil},
		{"plain", plain, Unknown, nil},
		{"itself", host, Host, []*Error{host}},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", host)), Host, []*Error{host}},
		{"outermost wins", outer, Build, []*Error{outer, guest}},
		{"joined with nothing", errors.Join(outer, nil), Build, []*Error{outer, guest}},
		{"joined: first wins, all are told", errors.Join(outer, host), Build, []*Error{outer, guest, host}},
		{"joined after a plain one", errors.Join(plain, host), Host, []*Error{host}},
		{"joined inside", inside, Input, []*Error{inside, guest, host}},
		{"two at once", fmt.Errorf("%w and %w", guest, host), Guest, []*Error{guest, host}},
		{"interrupted", errors.Join(context.Canceled, nil), Unknown, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := KindOf(c.err); got != c.kind {
				t.Errorf("kind %s, want %s", got, c.kind)
			}
			got := Chain(c.err)
			if len(got) != len(c.chain) {
				t.Fatalf("chain %v, want %v", got, c.chain)
			}
			for i := range got {
				if got[i] != c.chain[i] {
					t.Errorf("chain[%d] is %v, want %v", i, got[i], c.chain[i])
				}
			}
		})
	}
}

func TestError(t *testing.T) {
	cause := errors.New("no space left")
	e := New(Host, "write disk", "%w", cause).WithRemedy("free %d GiB", 4).
		WithEvidence("console", "last line\n \n").WithEvidence("stderr", " \n")
	if e.Error() != "write disk: no space left" || !errors.Is(e, cause) || e.Remedy != "free 4 GiB" {
		t.Errorf("got %+v", e)
	}
	if len(e.Evidence) != 1 || e.Evidence[0] != (Evidence{"console", "last line"}) {
		t.Errorf("evidence %+v", e.Evidence)
	}
	for want, e := range map[string]*Error{"op": {Op: "op"}, "no space left": {Err: cause}, "": {}} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := New(Usage, "", "%s", "x").Error(); strings.Contains(got, ":") {
		t.Errorf("got %q", got)
	}
}
