package main

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

func TestNearest(t *testing.T) {
	names := []string{"build", "clean", "doctor", "fetch", "lock", "logs", "runs", "shell", "smoke"}
	tests := []struct{ in, want string }{
		{"biuld", "build"}, {"bild", "build"}, {"smok", "smoke"}, {"doc", "doctor"}, {"log", "logs"},
		{"frobnicate", ""}, {"x", ""}, {"", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			if got := nearest(tt.in, names); got != tt.want {
				t.Errorf("nearest(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// TestExitTable: each kind of fault has its exit code, and no two share one.
func TestExitTable(t *testing.T) {
	seen := map[int]bool{}
	for k := fault.Unknown; k <= fault.Smoke; k++ {
		err := fmt.Errorf("wrapped: %w", fault.New(k, "op", "cause"))
		code := exitCode(context.Background(), err)
		if code != int(k)+1 || seen[code] {
			t.Errorf("%s: exit code %d", k, code)
		}
		seen[code] = true
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errInterrupted)
	if code := exitCode(ctx, fault.New(fault.Guest, "", "died")); code != exitInterrupted {
		t.Errorf("after a signal: exit code %d", code)
	}
}

func TestAge(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		text string
		ok   bool
	}{
		{"7d", 168 * time.Hour, "7d", true},
		{"0d", 0, "0s", true},
		{"90m", 90 * time.Minute, "1h30m0s", true},
		{"-1d", 0, "", false}, {"-1h", 0, "", false}, {"d", 0, "", false}, {"7", 0, "", false}, {"999999999d", 0, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			var a age
			err := a.Set(tt.in)
			if (err == nil) != tt.ok {
				t.Fatalf("Set: %v", err)
			}
			if tt.ok && (time.Duration(a) != tt.want || a.String() != tt.text) {
				t.Errorf("%s %q, want %s %q", time.Duration(a), a.String(), tt.want, tt.text)
			}
		})
	}
}

// TestRunBuild shows that a command runs without the flag library, with a pipeline of one's own.
func TestRunBuild(t *testing.T) {
	var out, errs bytes.Buffer
	std := streams{out: &out, err: &errs, getenv: func(string) string { return "" }}
	var asked pipeline.BuildOptions
	e := &env{screen: newScreen(std), api: api{
		build: func(_ context.Context, _ pipeline.Config, o pipeline.BuildOptions) (*pipeline.BuildResult, error) {
			asked = o
			return fakeResult(), nil
		},
	}}
	if err := runBuild(context.Background(), pipeline.BuildOptions{Spec: "seabios", Keep: true}, e); err != nil {
		t.Fatal(err)
	}
	if asked.Spec != "seabios" || !asked.Keep {
		t.Errorf("asked for %+v", asked)
	}
	golden(t, "build.txt", out.String())
}
