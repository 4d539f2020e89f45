// Package console knows how to follow what a machine says while it boots: what must come, in order and in time, what must
// not, and how long silence may last.
//
// It refuses to know where the bytes come from and what a failure means to the caller: it reads io.Readers and says
// which part of the script was broken.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Source is something that speaks in lines: a serial port, a debug console, the log of a monitor's events.
type Source struct {
	Name   string
	Reader io.Reader
	// Aside is for a source that is no console: Forbid does not look at it, it breaks no silence, and its lines are not in
	// the Tail.
	Aside bool
}

// Step is one thing that a script waits for, or does.
type Step struct {
	Name   string         // in a Match, and in an Error where it is missing
	Expect *regexp.Regexp // wait for a line that matches, later than the one of that source that met a step before
	On     string         // the source in which to look; empty is the first
	// Do is done when the step's turn comes; what it returns stands in the Match. A *Differs breaks the script, and any other
	// error ends the watch as it is.
	Do     func(context.Context) (string, error)
	Within time.Duration // since the step before; 0: as long as the script has
}

// Script is what a machine has to show. Its steps pass one after another.
type Script struct {
	Steps     []Step
	Forbid    []*regexp.Regexp // any of these on a console ends the watch at once
	Silence   time.Duration    // longest time without a byte from a console; 0 is none
	Timeout   time.Duration    // longest time in all; 0 is none
	Settle    time.Duration    // how long to watch on for what is forbidden, after the last step
	Reset     *regexp.Regexp   // a line of the source ResetOn that comes with each new start of the machine
	ResetOn   string           //
	MaxResets int              // how often it may come
}

// Match is a step that was done.
type Match struct {
	Pattern string        `json:"pattern"`          // the step's name
	On      string        `json:"on,omitempty"`     // the source, where it is not the first
	Line    string        `json:"line"`             // as far as it had come; or what came of what was done
	Number  int           `json:"number,omitempty"` // of the line in its source, from 1
	At      time.Duration `json:"at"`               // since the watch began
}

// Result is what a watch saw, up to its end.
type Result struct {
	Matches []Match       `json:"matches"` // one for each step done, in order
	Resets  int           `json:"resets"`  // how often Reset came
	Lines   int           `json:"lines"`   // finished ones, of consoles
	Bytes   int64         `json:"bytes"`   // of consoles
	Took    time.Duration `json:"took"`    // without the settling
	Tail    []string      `json:"tail"`    // the last 20 lines of consoles
	Ended   bool          `json:"ended"`   // the sources came to their end: the machine is gone
}

// Cause says how a script was broken.
type Cause string

// The causes.
const (
	Forbidden Cause = "forbidden" // a forbidden pattern matched
	Silent    Cause = "silent"    // no byte for too long
	TooLate   Cause = "timeout"   // all in all too long
	StepLate  Cause = "late"      // a step took too long
	ResetLoop Cause = "reset"     // the machine started over too often
	Ended     Cause = "ended"     // the machine was gone before the last step
	Different Cause = "different" // what a step looked at is not as it should be
)

// Differs is the error of a step that found something to be other than it should be: a sentence.
type Differs struct{ Text string }

func (d *Differs) Error() string { return d.Text }

// Error is a broken script.
type Error struct {
	Cause   Cause
	Pattern string        // Forbidden, ResetLoop: the one that matched
	Line    string        // Forbidden, ResetLoop: the line that it matched; Different: what differs
	Missing string        // the step that was waited for; empty if none was left
	After   time.Duration // Silent: the silence; TooLate, StepLate: the limit; else the time since the watch began
	Bytes   int64         // how much the consoles had said
}

func (e *Error) Error() string {
	wait := ""
	if e.Missing != "" {
		wait = fmt.Sprintf(" while waiting for /%s/", e.Missing)
	}
	d := e.After.Round(10 * time.Millisecond)
	switch e.Cause {
	case Forbidden:
		return fmt.Sprintf("forbidden line %q (matches /%s/)%s", e.Line, e.Pattern, wait)
	case Silent:
		if e.Bytes == 0 {
			return fmt.Sprintf("the console said nothing at all for %s%s", d, wait)
		}
		return fmt.Sprintf("the console fell silent for %s%s", d, wait)
	case TooLate, StepLate:
		return fmt.Sprintf("the time limit of %s passed%s", d, wait)
	case ResetLoop:
		return fmt.Sprintf("the machine started over again and again (%q)%s", e.Line, wait)
	case Different:
		return e.Line
	}
	return fmt.Sprintf("the machine ended after %s%s", d, wait)
}

// check refuses scripts that could never pass, or would always.
func (s Script) check(sources []Source) error {
	positive := false
	for _, step := range s.Steps {
		positive = positive || step.Expect != nil
		if step.Expect == nil && step.Do == nil {
			return fmt.Errorf("console script: step %q waits for nothing and does nothing", step.Name)
		}
		if step.On != "" && find(sources, step.On) < 0 {
			return fmt.Errorf("console script: step %q looks on %s, which is not there", step.Name, step.On)
		}
	}
	switch {
	case len(sources) == 0:
		return errors.New("console script: nothing to read")
	case !positive:
		return errors.New("console script: no expectation, so it proves nothing")
	}
	return nil
}

func find(sources []Source, name string) int {
	for i, s := range sources {
		if s.Name == name {
			return i
		}
	}
	return -1
}
