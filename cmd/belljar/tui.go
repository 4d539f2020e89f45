package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

// screen is all that Belljar says: to people (progress on stderr, results on stdout) or, with --json, to programs
// (one object a line on stdout). tui.go and its siblings tui_*.go are the only files that print.
type screen struct {
	std  streams
	opts screenOptions

	mu   sync.Mutex
	view view  // how progress is shown; made at the first event, nil before and after
	lost error // why a result could not be printed: a full disk, mostly
}

type screenOptions struct {
	json, quiet, noColor bool
}

// view shows events as they come.
type view interface {
	event(pipeline.Event)
	close(ok bool) // ok: whatever still goes on went well
}

func newScreen(std streams) *screen { return &screen{std: std} }

func (s *screen) configure(o screenOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts = o
}

// report is the pipeline's Reporter.
func (s *screen) report(ev pipeline.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	if s.view == nil {
		s.view = s.newView()
	}
	s.view.event(ev)
}

func (s *screen) note(text string) { s.report(pipeline.Event{Kind: pipeline.Note, Text: text}) }

func (s *screen) newView() view {
	st := s.styleOf(s.std.err)
	switch {
	case s.opts.json:
		return jsonView{s.std.out, s.opts.quiet}
	case s.opts.quiet:
		return newPlain(s.std.err, st, time.Now, true)
	}
	f, ok := terminalOf(s.std.err)
	if !ok || dumb(s.std.getenv) {
		return newPlain(s.std.err, st, time.Now, false)
	}
	l := newLive(f, func() (int, int) { return sizeOf(f) }, time.Now, st)
	l.run()
	return l
}

func sizeOf(terminal *os.File) (width, height int) {
	w, h, err := term.GetSize(int(terminal.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 80, 24
	}
	return w, h
}

// widthOf is how many columns a result may take: 0, without end, where no terminal is.
func widthOf(w io.Writer) int {
	f, ok := terminalOf(w)
	if !ok {
		return 0
	}
	width, _ := sizeOf(f)
	return width
}

// finish ends the progress, so that something else can be printed.
func (s *screen) finish(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != nil {
		s.view.close(ok)
		s.view = nil
	}
}

func (s *screen) close() { s.finish(true) }

// abandon is finish for a program about to be killed: nobody may hold the lock for good, but do not count on it.
func (s *screen) abandon() {
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		if s.view != nil {
			s.view.close(false)
		}
	}
}

// result prints what a command came to: v for programs, or what people writes.
func (s *screen) result(command string, v any, people func(*printer)) {
	s.finish(true)
	if s.opts.json {
		s.object(struct {
			Kind    string `json:"kind"`
			Command string `json:"command"`
			Result  any    `json:"result"`
		}{"result", command, v})
		return
	}
	var b bytes.Buffer
	people(&printer{w: &b, st: s.styleOf(s.std.out), width: widthOf(s.std.out)})
	_, s.lost = s.std.out.Write(b.Bytes())
}

// object prints one JSON object on one line.
func (s *screen) object(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = writeJSON(s.std.out, v)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// failure prints an error with all that its chain knows.
func (s *screen) failure(err error, code int) {
	s.finish(false)
	if _, told := errors.AsType[failed](err); told {
		return
	}
	r := newErrorReport(err, code)
	if s.opts.json {
		s.object(struct {
			Kind  string      `json:"kind"`
			Error errorReport `json:"error"`
		}{"error", r})
		return
	}
	p := &printer{w: s.std.err, st: s.styleOf(s.std.err)}
	p.failure(r)
}

// errorReport is a failure as programs read it, and as people do after printing.
type errorReport struct {
	Kind     string     `json:"kind"` // a name of the table of exit codes
	Op       string     `json:"op,omitempty"`
	Message  string     `json:"message"`
	Remedy   string     `json:"remedy,omitempty"` // one sentence a line, outermost first
	ExitCode int        `json:"exit_code"`
	Run      string     `json:"run,omitempty"`
	Evidence []evidence `json:"evidence"`

	side string // the kind in words
}

type evidence struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// newErrorReport gathers the remedies and the evidence of the whole chain, each once.
func newErrorReport(err error, code int) errorReport {
	r := errorReport{
		Kind: exitName(code), ExitCode: code, Message: err.Error(), Evidence: []evidence{},
		side: fault.KindOf(err).String(),
	}
	if run, ok := errors.AsType[interface {
		error
		RunID() string
	}](err); ok {
		r.Run = run.RunID()
	}
	if code == exitInterrupted {
		// Whatever broke did so because it was told to stop: its remedies would mislead.
		r.side, r.Message = "", errInterrupted.Error()
		return r
	}
	var remedies []string
	seen := map[string]bool{}
	once := func(s string) bool {
		first := s != "" && !seen[s]
		seen[s] = true
		return first
	}
	for i, e := range fault.Chain(err) {
		if i == 0 {
			r.Op = e.Op
		}
		if once("r"+e.Remedy) && e.Remedy != "" {
			remedies = append(remedies, e.Remedy)
		}
		for _, ev := range e.Evidence {
			if once("e" + ev.Text) {
				r.Evidence = append(r.Evidence, evidence{ev.Title, ev.Text})
			}
		}
	}
	if len(remedies) == 0 && code == exitInternal {
		remedies = []string{"this is a defect in Belljar: please report it, with the command and this message"}
	}
	r.Remedy = strings.Join(remedies, "\n")
	return r
}

// logWriter takes a run's log. In a pipe it passes bytes as they are; for a terminal or JSON it goes line by line,
// because what a guest printed must not steer the terminal.
func (s *screen) logWriter(like pipeline.Event) (w io.Writer, flush func()) {
	if s.opts.json {
		like.Kind = pipeline.LogLine
		lw := &lineWriter{line: func(line string) {
			like.Time, like.Text = time.Now(), line
			s.report(like)
		}}
		return lw, lw.flush
	}
	if _, ok := terminalOf(s.std.out); !ok {
		return s.std.out, func() {}
	}
	st := s.styleOf(s.std.out)
	lw := &lineWriter{line: func(line string) { fmt.Fprintln(s.std.out, st.plain(tidy(line))) }}
	return lw, lw.flush
}

// styleOf says which colours and letters w can show.
func (s *screen) styleOf(w io.Writer) style {
	st := style{utf8: utf8Locale(s.std.getenv)}
	_, ok := terminalOf(w)
	st.colour = ok && !s.opts.noColor && s.std.getenv("NO_COLOR") == "" && !dumb(s.std.getenv)
	return st
}

func dumb(getenv func(string) string) bool {
	t := getenv("TERM")
	return t == "" || t == "dumb"
}

func terminalOf(w any) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// utf8Locale reads the locale as setlocale(3) does: the first of the three that is set decides.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
