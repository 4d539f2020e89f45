package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/belljar/belljar/pipeline"
)

// progressEvery is how often a pipe hears of progress within a phase.
const progressEvery = 10 * time.Second

// plain writes whole lines, for a pipe, a file, or a terminal that can do no better.
type plain struct {
	w     io.Writer
	st    style
	now   func() time.Time
	quiet bool // warnings only

	mu    sync.Mutex
	parts parts
}

func newPlain(w io.Writer, st style, now func() time.Time, quiet bool) *plain {
	return &plain{w: w, st: st, now: now, quiet: quiet}
}

func (p *plain) event(ev pipeline.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ev.Kind == pipeline.Warning {
		p.line(yellow, "warning: %s", tidy(ev.Text))
		return
	}
	if p.quiet {
		return
	}
	now := p.now()
	a := p.parts.take(ev, now)
	switch ev.Kind {
	case pipeline.PhaseStart:
		p.line("", "-- %s", a.title(": "))
		a.said = now
	case pipeline.PhaseEnd:
		p.line("", "ok %s (%s)", labelled(label(ev), ": ", tidy(ev.Text)), took(a.took(ev, now)))
	case pipeline.Progress:
		if now.Sub(a.said) >= progressEvery {
			p.line("", "   %s: %s", a.label, a.meter.text(now))
			a.said = now
		}
	case pipeline.LogLine:
		p.line(dim, "  | %s", tidy(ev.Text))
	case pipeline.Note:
		p.line("", "%s", tidy(ev.Text))
	}
}

func (p *plain) close(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ok && !p.quiet {
		for _, a := range p.parts {
			p.line(red, "xx %s (%s)", a.label, took(p.now().Sub(a.began)))
		}
	}
	p.parts = nil
}

func (p *plain) line(sgr, format string, args ...any) {
	fmt.Fprintln(p.w, p.st.paint(sgr, p.st.plain(fmt.Sprintf(format, args...))))
}

// jsonView writes each event as it is, for programs.
type jsonView struct {
	w     io.Writer
	quiet bool // warnings only
}

func (j jsonView) event(ev pipeline.Event) {
	if !j.quiet || ev.Kind == pipeline.Warning {
		_ = writeJSON(j.w, ev) // the result will meet the same trouble, and say so
	}
}

func (jsonView) close(bool) {}

// silent shows nothing: somebody else has the terminal.
type silent struct{}

func (silent) event(pipeline.Event) {}
func (silent) close(bool)           {}
