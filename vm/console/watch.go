// Package console knows how to read a serial console: as clean lines, and against a script of what must come, what must
// not, and how long silence may last.
//
// It refuses to know where the bytes come from and what a failure means to the caller: it reads an io.Reader and says
// which part of the script was broken.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Script is what a console has to show.
type Script struct {
	Expect    []*regexp.Regexp // in this order, each on a later line than the one before
	Forbid    []*regexp.Regexp // any of these ends the watch at once
	Silence   time.Duration    // longest time without a byte; 0 is none
	Timeout   time.Duration    // longest time in all; 0 is none
	Reset     *regexp.Regexp   // a line that each start of the machine prints once, e.g. its firmware's banner
	MaxResets int              // how often Reset may come again after its first time
}

// Match is a line that an expectation matched.
type Match struct {
	Pattern string        `json:"pattern"`
	Line    string        `json:"line"`   // as far as it had come
	Number  int           `json:"number"` // of the line, from 1
	At      time.Duration `json:"at"`     // since the watch began
}

// Result is what a watch saw, up to its end.
type Result struct {
	Matches []Match       `json:"matches"` // one for each expectation met, in order
	Resets  int           `json:"resets"`  // starts after the first
	Lines   int           `json:"lines"`   // finished ones
	Bytes   int64         `json:"bytes"`
	Took    time.Duration `json:"took"`
	Tail    []string      `json:"tail"` // the last 20 lines
}

// Cause says how a script was broken.
type Cause string

// The causes.
const (
	Forbidden Cause = "forbidden" // a forbidden pattern matched
	Silent    Cause = "silent"    // no byte for too long
	TooLate   Cause = "timeout"   // all in all too long
	ResetLoop Cause = "reset"     // the machine started over too often
	Ended     Cause = "ended"     // the machine was gone before the last expectation
)

// Error is a broken script.
type Error struct {
	Cause   Cause
	Pattern string        // Forbidden, ResetLoop: the one that matched
	Line    string        // Forbidden, ResetLoop: the line it matched
	Missing string        // the expectation that was waited for; empty if none was left
	After   time.Duration // Silent: the silence; TooLate: the timeout; else the time since the watch began
	Bytes   int64         // how much the console had said
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
	case TooLate:
		return fmt.Sprintf("the time limit of %s passed%s", d, wait)
	case ResetLoop:
		return fmt.Sprintf("the machine started over again and again (%q)%s", e.Line, wait)
	}
	return fmt.Sprintf("the machine ended after %s%s", d, wait)
}

// tailSize is how many lines a Result and an error's evidence carry.
const tailSize = 20

// Watch reads r until the last expectation is met (nil), the script is broken (*Error) or ctx ends (its cause). The
// Result is valid in all cases. Watch closes r, if it can be closed, so that no read is left behind.
func Watch(ctx context.Context, r io.Reader, s Script) (Result, error) {
	w := &watch{script: s, start: time.Now(), tail: NewTail(tailSize)}
	err := w.run(ctx, r)
	w.result.Took = time.Since(w.start)
	w.result.Tail = w.tail.Lines()
	if len(w.clean.line) > 0 { // the unfinished line is often the telling one
		w.result.Tail = append(w.result.Tail, w.clean.take())
		w.result.Tail = w.result.Tail[max(0, len(w.result.Tail)-tailSize):]
	}
	return w.result, err
}

type watch struct {
	script Script
	start  time.Time
	clean  cleaner
	tail   *Tail
	result Result
	booted bool // Reset has matched once
	hit    struct {
		expect bool // the line under way has met an expectation: the next one needs a later line
		reset  bool // … has been counted as a start
	}
}

// chunk is a read's outcome.
type chunk struct {
	data []byte
	err  error
}

func (w *watch) run(ctx context.Context, r io.Reader) error {
	if len(w.script.Expect) == 0 {
		return errors.New("console script: no expectation, so it could never pass")
	}
	quit := make(chan struct{})
	defer close(quit)
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	chunks := make(chan chunk)
	go pump(r, chunks, quit)

	silence, stopSilence := timer(w.script.Silence)
	defer func() { stopSilence() }()
	timeout, stopTimeout := timer(w.script.Timeout)
	defer stopTimeout()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout:
			return w.broken(Error{Cause: TooLate, After: w.script.Timeout})
		case <-silence:
			return w.broken(Error{Cause: Silent, After: w.script.Silence})
		case <-settled:
			if done, err := w.look(string(w.clean.line)); done || err != nil {
				return err
			}
		case c := <-chunks:
			done, err := w.take(c.data)
			switch {
			case done || err != nil:
				return err
			case errors.Is(c.err, io.EOF):
				return w.ended()
			case c.err != nil:
				return fmt.Errorf("read console: %w", c.err)
			}
			if len(c.data) > 0 {
				settled = time.After(settle)
				stopSilence()
				silence, stopSilence = timer(w.script.Silence)
			}
		}
	}
}

// settle is how long an unfinished line must stand before it is looked at: a prompt has no line end, but the first half
// of a line is not what a pattern means, nor what a report should quote.
const settle = 100 * time.Millisecond

// ended is the verdict when the console is at its end: its last line may still meet the last expectation.
func (w *watch) ended() error {
	if done, err := w.look(string(w.clean.line)); done || err != nil {
		return err
	}
	return w.broken(Error{Cause: Ended, After: time.Since(w.start)})
}

// pump reads in the background, for a read cannot be given up.
func pump(r io.Reader, out chan<- chunk, quit <-chan struct{}) {
	for {
		buf := make([]byte, 4096)
		n, err := r.Read(buf)
		select {
		case out <- chunk{buf[:n], err}:
		case <-quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// timer is a channel that fires after d, or never for 0.
func timer(d time.Duration) (<-chan time.Time, func()) {
	if d <= 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// take reads a chunk line by line.
func (w *watch) take(data []byte) (done bool, err error) {
	for _, b := range data {
		w.result.Bytes++
		if !w.clean.push(b) {
			continue
		}
		done, err = w.look(string(w.clean.line))
		w.tail.Add(w.clean.take())
		w.result.Lines++
		w.hit.expect, w.hit.reset = false, false
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// look holds a line, or as much of it as has come, against the script.
func (w *watch) look(line string) (done bool, err error) {
	if line == "" {
		return false, nil
	}
	for _, re := range w.script.Forbid {
		if re.MatchString(line) {
			return false, w.broken(Error{Cause: Forbidden, Pattern: re.String(), Line: line,
				After: time.Since(w.start)})
		}
	}
	if re := w.script.Reset; re != nil && !w.hit.reset && re.MatchString(line) {
		w.hit.reset = true
		if w.booted {
			w.result.Resets++
		}
		w.booted = true
		if w.result.Resets > w.script.MaxResets {
			return false, w.broken(Error{Cause: ResetLoop, Pattern: re.String(), Line: line,
				After: time.Since(w.start)})
		}
	}
	if next := w.missing(); next != nil && !w.hit.expect && next.MatchString(line) {
		w.hit.expect = true
		w.result.Matches = append(w.result.Matches, Match{
			Pattern: next.String(), Line: strings.TrimRight(line, " \t"), Number: w.result.Lines + 1,
			At: time.Since(w.start),
		})
	}
	return w.missing() == nil, nil
}

// missing is the next expectation, nil if all are met.
func (w *watch) missing() *regexp.Regexp {
	if n := len(w.result.Matches); n < len(w.script.Expect) {
		return w.script.Expect[n]
	}
	return nil
}

func (w *watch) broken(e Error) error {
	if re := w.missing(); re != nil {
		e.Missing = re.String()
	}
	e.Bytes = w.result.Bytes
	return &e
}
