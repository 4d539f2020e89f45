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

// tailSize is how many lines a Result and an error's evidence carry.
const tailSize = 20

// backlog is how many lines of a source wait for a step whose turn has not come; of more, the oldest are forgotten.
const backlog = 4096

// settle is how long an unfinished line must stand before it is looked at: a prompt has no line end, but the first half
// of a line is not what a pattern means, nor what a report should quote.
const settle = 100 * time.Millisecond

// Watch reads the sources until the last step is done and has settled (nil), the script is broken (*Error) or ctx ends
// (its cause). The Result is valid in all cases. Watch closes the sources that can be closed, so that no read is left
// behind.
func Watch(ctx context.Context, sources []Source, s Script) (Result, error) {
	w := &watch{script: s, start: time.Now(), tail: NewTail(tailSize)}
	for _, src := range sources {
		w.sources = append(w.sources, &feed{Source: src})
	}
	err := s.check(sources)
	if err == nil {
		err = w.run(ctx)
	}
	if w.done.IsZero() {
		w.done = time.Now()
	}
	w.result.Took = w.done.Sub(w.start)
	w.result.Tail, w.result.Ended = w.lastLines(), len(w.sources) > 0 && w.ended()
	return w.result, err
}

type watch struct {
	script  Script
	sources []*feed
	start   time.Time
	done    time.Time // when the last step was
	tail    *Tail
	result  Result
}

// feed is a source as it is read.
type feed struct {
	Source
	clean   cleaner
	number  int    // of the line under way, from 0
	waiting []line // finished lines that no step has looked at
	met     int    // lines before this number have met a step, or stand before one that has
	counted bool   // the line under way was counted as a reset
	ended   bool
}

type line struct {
	number int
	text   string
}

// chunk is a read's outcome.
type chunk struct {
	feed *feed
	data []byte
	err  error
}

func (w *watch) run(ctx context.Context) error {
	quit := make(chan struct{})
	defer close(quit)
	chunks := make(chan chunk)
	for _, f := range w.sources {
		if c, ok := f.Reader.(io.Closer); ok {
			defer c.Close()
		}
		go pump(f, chunks, quit)
	}
	silence, timeout, late := newAlarm(w.script.Silence), newAlarm(w.script.Timeout), newAlarm(0)
	var settled <-chan time.Time
	standing := false // the lines under way have stood for long enough
	for at := -1; ; {
		if err := w.advance(ctx, standing); err != nil {
			return err
		}
		standing = false
		step := w.step()
		if step == nil {
			return w.settle(ctx, chunks)
		}
		if n := len(w.result.Matches); n != at {
			at, late = n, newAlarm(step.Within)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout.c:
			return w.broken(Error{Cause: TooLate, After: w.script.Timeout})
		case <-late.c:
			return w.broken(Error{Cause: StepLate, After: step.Within})
		case <-silence.c:
			return w.broken(Error{Cause: Silent, After: w.script.Silence})
		case <-settled:
			standing = true
		case c := <-chunks:
			if err := w.take(ctx, c); err != nil {
				return err
			}
			if w.ended() {
				return w.end(ctx)
			}
			settled = time.After(settle)
			if !c.feed.Aside && len(c.data) > 0 {
				silence = newAlarm(w.script.Silence)
			}
		}
	}
}

// settle watches on, after the last step: a ROM that says that all is well and then panics is not well. That the machine
// ends is for the caller to judge.
func (w *watch) settle(ctx context.Context, chunks <-chan chunk) error {
	w.done = time.Now()
	over := newAlarm(w.script.Settle)
	if over.c == nil {
		return nil
	}
	for !w.ended() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.c:
			return w.forbidden()
		case c := <-chunks:
			if err := w.take(ctx, c); err != nil {
				return err
			}
		}
	}
	return w.forbidden()
}

// pump reads in the background, for a read cannot be given up.
func pump(f *feed, out chan<- chunk, quit <-chan struct{}) {
	for {
		buf := make([]byte, 4096)
		n, err := f.Reader.Read(buf)
		select {
		case out <- chunk{f, buf[:n], err}:
		case <-quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// alarm fires once after its time, or never for 0.
type alarm struct{ c <-chan time.Time }

func newAlarm(d time.Duration) alarm {
	if d <= 0 {
		return alarm{}
	}
	return alarm{time.After(d)}
}

// ended says whether all sources are at their end: the machine is gone.
func (w *watch) ended() bool {
	for _, f := range w.sources {
		if !f.ended {
			return false
		}
	}
	return true
}

// end is the verdict when the machine is gone: its last line may still meet the last step.
func (w *watch) end(ctx context.Context) error {
	if err := w.advance(ctx, true); err != nil {
		return err
	}
	if w.step() == nil {
		return nil
	}
	return w.broken(Error{Cause: Ended, After: time.Since(w.start)})
}

// take reads a chunk line by line, and does what steps its lines allow.
func (w *watch) take(ctx context.Context, c chunk) error {
	f := c.feed
	for _, b := range c.data {
		if !f.Aside {
			w.result.Bytes++
		}
		if f.clean.push(b) {
			if err := w.finish(f); err != nil {
				return err
			}
			if err := w.advance(ctx, false); err != nil {
				return err
			}
		}
	}
	switch {
	case c.err == nil:
	case errors.Is(c.err, io.EOF):
		f.ended = true
	default:
		return fmt.Errorf("read console: %w", c.err)
	}
	return nil
}

// finish takes a finished line.
func (w *watch) finish(f *feed) error {
	if err := w.look(f); err != nil {
		return err
	}
	text := f.clean.take()
	if !f.Aside {
		w.tail.Add(text)
		w.result.Lines++
	}
	if f.number >= f.met {
		f.waiting = append(f.waiting, line{f.number, text})
		f.waiting = f.waiting[max(0, len(f.waiting)-backlog):]
	}
	f.number++
	f.counted = false
	return nil
}

// forbidden looks at the lines under way.
func (w *watch) forbidden() error {
	for _, f := range w.sources {
		if err := w.look(f); err != nil {
			return err
		}
	}
	return nil
}

// look holds the line under way against what must not come.
func (w *watch) look(f *feed) error {
	text := string(f.clean.line)
	if text == "" {
		return nil
	}
	if re := w.script.Reset; re != nil && f.Name == w.script.ResetOn && !f.counted && re.MatchString(text) {
		f.counted = true
		if w.result.Resets++; w.result.Resets > w.script.MaxResets {
			return w.broken(Error{Cause: ResetLoop, Pattern: re.String(), Line: text, After: time.Since(w.start)})
		}
	}
	if f.Aside {
		return nil
	}
	for _, re := range w.script.Forbid {
		if re.MatchString(text) {
			return w.broken(Error{Cause: Forbidden, Pattern: re.String(), Line: text, After: time.Since(w.start)})
		}
	}
	return nil
}

// advance does as many steps as can be done now, by finished lines, and by those under way if they are standing.
func (w *watch) advance(ctx context.Context, standing bool) error {
	if standing {
		if err := w.forbidden(); err != nil {
			return err
		}
	}
	for step := w.step(); step != nil; step = w.step() {
		if step.Expect == nil {
			came, err := step.Do(ctx)
			if d, ok := errors.AsType[*Differs](err); ok {
				return w.broken(Error{Cause: Different, Line: d.Text, After: time.Since(w.start)})
			}
			if err != nil {
				return err
			}
			w.pass(Match{Pattern: step.Name, Line: came})
			continue
		}
		if !w.find(step, standing) {
			return nil
		}
	}
	return nil
}

// find looks for the line that a step waits for.
func (w *watch) find(step *Step, standing bool) bool {
	f := w.sources[0]
	on := ""
	if step.On != "" && step.On != f.Name {
		on = step.On
		for _, other := range w.sources {
			if other.Name == on {
				f = other
			}
		}
	}
	for i, l := range f.waiting {
		if step.Expect.MatchString(l.text) {
			f.waiting = f.waiting[i+1:]
			w.pass(Match{Pattern: step.Name, On: on, Line: l.text, Number: l.number + 1})
			return true
		}
	}
	f.waiting = nil // they are before whatever will meet this step
	text := string(f.clean.line)
	if !standing || f.number < f.met || text == "" || !step.Expect.MatchString(text) {
		return false
	}
	f.met = f.number + 1
	w.pass(Match{Pattern: step.Name, On: on, Line: strings.TrimRight(text, " \t"), Number: f.number + 1})
	return true
}

// step is the one whose turn it is; nil if all are done.
func (w *watch) step() *Step {
	if n := len(w.result.Matches); n < len(w.script.Steps) {
		return &w.script.Steps[n]
	}
	return nil
}

func (w *watch) pass(m Match) {
	m.At = time.Since(w.start)
	w.result.Matches = append(w.result.Matches, m)
}

func (w *watch) broken(e Error) error {
	if step := w.step(); step != nil {
		e.Missing = step.Name
	}
	e.Bytes = w.result.Bytes
	return &e
}

// lastLines are the tail with the unfinished lines, which are often the telling ones.
func (w *watch) lastLines() []string {
	all := w.tail.Lines()
	for _, f := range w.sources {
		if !f.Aside && len(f.clean.line) > 0 {
			all = append(all, f.clean.take())
		}
	}
	return all[max(0, len(all)-tailSize):]
}

// Expectations are steps that wait for patterns of the first source.
func Expectations(patterns ...*regexp.Regexp) []Step {
	var steps []Step
	for _, re := range patterns {
		steps = append(steps, Step{Name: re.String(), Expect: re})
	}
	return steps
}
