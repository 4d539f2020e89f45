package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/pipeline"
)

// golden compares got with a file of testdata; -update writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("not as in %s (-want +got):\n%s", path, d)
	}
}

// clock is a clock that goes when told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

// play feeds events to a view, half a second apart, and calls shot after those with the given numbers.
func play(v view, c *clock, evs []pipeline.Event, tick func(i int)) {
	for i, ev := range evs {
		c.t = c.t.Add(500 * time.Millisecond)
		v.event(ev)
		tick(i)
	}
}

func TestLive(t *testing.T) {
	tests := []struct {
		name          string
		width, height int
		st            style
	}{
		{"wide", 120, 24, style{utf8: true}},
		{"coloured", 120, 24, style{utf8: true, colour: true}}, // the same picture: colours take no room
		{"narrow", 40, 24, style{utf8: true}},
		{"ascii", 80, 24, style{}},
		{"tiny", 9, 2, style{utf8: true}},
		{"one-column", 1, 1, style{utf8: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			term, c := &fakeTerminal{width: tt.width, height: tt.height}, newClock()
			l := newLive(term, term.size, c.now, tt.st)
			var shots strings.Builder
			play(l, c, fakeEvents(true), func(i int) {
				l.tick()
				if i%9 == 4 || i == 21 {
					fmt.Fprintf(&shots, "--- after event %d\n%s", i, term)
				}
			})
			l.close(true)
			fmt.Fprintf(&shots, "--- at the end\n%s", term)
			if len(term.trouble) > 0 {
				t.Errorf("wrong on a terminal: %q", term.trouble)
			}
			name := tt.name
			if name == "coloured" {
				name = "wide"
			}
			golden(t, "live-"+name+".txt", shots.String())
		})
	}
}

func TestLiveFailure(t *testing.T) {
	term, c := &fakeTerminal{width: 80, height: 24}, newClock()
	l := newLive(term, term.size, c.now, style{utf8: true})
	play(l, c, fakeEvents(false), func(int) {})
	l.tick()
	c.t = c.t.Add(time.Minute)
	l.close(false)
	got := term.String()
	if want := "✗ stage build    SeaBIOS for QEMU"; !strings.Contains(got, want) {
		t.Errorf("no line %q in:\n%s", want, got)
	}
	if strings.Contains(got, "Compiling") {
		t.Errorf("the region is still there:\n%s", got)
	}
}

// TestLiveRate: however many events come, a picture is made only when the clock ticks.
func TestLiveRate(t *testing.T) {
	term, c := &fakeTerminal{width: 80, height: 24}, newClock()
	l := newLive(term, term.size, c.now, style{utf8: true})
	l.event(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseStage})
	for i := range 10000 {
		l.event(pipeline.Event{Kind: pipeline.LogLine, Phase: pipeline.PhaseStage, Text: fmt.Sprint(i)})
	}
	if term.writes != 0 {
		t.Errorf("%d writes without a tick", term.writes)
	}
	l.tick()
	if term.writes != 1 {
		t.Errorf("%d writes for one tick", term.writes)
	}
	if !strings.Contains(term.String(), "9999") {
		t.Errorf("not the last line:\n%s", term)
	}
}

// TestLiveSeveral: two phases at once each have their lines; what does not fit the height stays away.
func TestLiveSeveral(t *testing.T) {
	term, c := &fakeTerminal{width: 60, height: 24}, newClock()
	l := newLive(term, term.size, c.now, style{utf8: true})
	for _, name := range []string{"pc", "q35"} {
		l.event(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseSmoke, Name: name, Text: "boot"})
		l.event(pipeline.Event{Kind: pipeline.LogLine, Phase: pipeline.PhaseSmoke, Name: name, Text: "line of " + name})
	}
	l.tick()
	for _, want := range []string{"smoke pc", "line of pc", "smoke q35", "line of q35"} {
		if !strings.Contains(term.String(), want) {
			t.Errorf("no %q in:\n%s", want, term)
		}
	}
	term.height = 3
	l.tick()
	if got := len(l.region); got != 2 {
		t.Errorf("%d lines in a terminal of 3, want 2", got)
	}
}

func TestRows(t *testing.T) {
	tests := []struct {
		name  string
		lines []int
		width int
		want  int
	}{
		{"nothing", nil, 80, 0},
		{"as drawn", []int{79, 10}, 80, 2},
		{"an empty line takes a row", []int{0}, 80, 1},
		{"halved", []int{79, 10}, 40, 3},
		{"just fits", []int{40}, 40, 1},
		{"no width at all", []int{2}, 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rows(tt.lines, tt.width); got != tt.want {
				t.Errorf("rows(%v, %d) = %d, want %d", tt.lines, tt.width, got, tt.want)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	for _, tt := range []struct {
		name         string
		happy, quiet bool
	}{{"happy", true, false}, {"unhappy", false, false}, {"quiet", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			c := newClock()
			p := newPlain(&b, style{utf8: true}, c.now, tt.quiet)
			play(p, c, fakeEvents(tt.happy), func(int) { c.t = c.t.Add(time.Second) })
			p.close(tt.happy)
			golden(t, "plain-"+tt.name+".txt", b.String())
		})
	}
}

func TestMeter(t *testing.T) {
	at := newClock().t
	var m meter
	add := func(after time.Duration, done, total int64) {
		m.add(pipeline.Event{Done: done, Total: total, Unit: "bytes"}, at.Add(after))
	}
	check := func(after time.Duration, want string) {
		t.Helper()
		if got := m.text(at.Add(after)); got != want {
			t.Errorf("after %s: %q, want %q", after, got, want)
		}
	}
	add(0, 0, 100<<20)
	check(0, "0%, 0 B of 100 MiB")
	add(time.Second, 10<<20, 100<<20)
	check(time.Second, "10%, 10 MiB of 100 MiB, 10 MiB/s, 9s left")
	for i := 2; i <= 20; i++ { // the rate follows: the window forgets the fast start
		add(time.Duration(i)*time.Second, 10<<20+int64(i-1)<<20, 100<<20)
	}
	check(20*time.Second, "29%, 29 MiB of 100 MiB, 1 MiB/s, 1m11s left")
	add(21*time.Second, 100<<20, 100<<20)
	if got := m.text(at.Add(21 * time.Second)); strings.Contains(got, "left") {
		t.Errorf("something left at the end: %q", got)
	}
	add(22*time.Second, 1<<20, 2<<20) // a new count
	check(22*time.Second, "50%, 1 MiB of 2 MiB")
}

// What a person sees of runs in every state, and whether it fits in columns.
func TestRunsText(t *testing.T) {
	at := func(s int) time.Time { return newClock().t.Add(time.Duration(s) * time.Second) }
	defer func(was *time.Location) { time.Local = was }(time.Local)
	time.Local = time.UTC
	var b bytes.Buffer
	(&printer{w: &b}).runs([]pipeline.RunInfo{
		{ID: "a", What: "build seabios", State: "passed", Phase: "handover", Started: at(0), Ended: at(62)},
		{ID: "b", What: "build seabios", State: "failed", Phase: "stage", Name: "build", Error: "script exited 3\nand more",
			Started: at(0), Ended: at(7)},
		{ID: "c", What: "build seabios", State: "running", Phase: "stage", Name: "build", Started: at(0), Since: at(30)},
		{ID: "d", What: "smoke seabios", State: "running", Started: at(99)},
		{ID: "e", What: "build seabios", State: "running", Phase: "boot", Started: at(0), Since: at(90), Stopping: at(99)},
		{ID: "f", What: "build seabios", State: "running", Phase: "stage", Name: "build", Kept: "stage-build", Started: at(0),
			Since: at(40), Error: "script exited 3"},
		{ID: "g", What: "build seabios", State: "dead", Phase: "configure", Error: "its process ended without a word",
			Started: at(0), Ended: at(50), Swept: at(90)},
		{ID: "h", State: "dead", Ended: at(50), Swept: at(90), Error: "its process ended without a word"},
		{ID: "i", What: "build \x1b[2Jevil", State: "cancelled", Phase: "fetch", Error: "interrupted", Started: at(0), Ended: at(1)},
	}, at(100))
	golden(t, "runs.txt", b.String())
}
