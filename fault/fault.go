// Package fault knows whose fault a failure is, and nothing else.
//
// Every failure that reaches a user has one of six kinds: the user's call (usage), what they handed in (input),
// the machine that Belljar runs on (host), the virtual machine (guest), a step of the build that said no (build),
// or a ROM that did not boot (smoke). The kind decides the exit code and whether a retry makes sense; the report
// carries the evidence, so that nobody has to be told 'exit status 1'.
//
// It refuses to know how any of them came about: it imports nothing of the house.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says which side failed.
type Kind int

// The kinds, in the order of their exit codes. Unknown is a failure that nobody classified: a defect in Belljar.
const (
	Unknown Kind = iota
	Usage
	Input
	Host
	Guest
	Build
	Smoke
)

var kindNames = [...]string{
	"internal error", "usage", "input fault", "host fault", "guest fault", "build failure", "smoke failure",
}

func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return kindNames[Unknown]
	}
	return kindNames[k]
}

// Retryable reports whether the same call may succeed when made again with nothing changed.
// Only the host's and the guest's faults are: a wrong hash or a failing script stays what it is.
func (k Kind) Retryable() bool { return k == Host || k == Guest }

// Evidence is what one side printed or what reproduces the failure: a console tail, QEMU's stderr, a command line.
type Evidence struct {
	Title string
	Text  string
}

// Error is a failure with its side, its remedy and its evidence.
type Error struct {
	Kind     Kind
	Op       string     // a short noun or verb, as in "read lock"
	Err      error      // the cause
	Remedy   string     // how to mend it, a sentence in the imperative; may be empty
	Evidence []Evidence // most telling first
}

// Error is the one-line form: 'op: cause'. Remedy and evidence are printed apart, by the one file that prints.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Op
	case e.Op == "":
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New makes a failure of kind k; the format is fmt.Errorf's, so that %w wraps.
func New(k Kind, op, format string, args ...any) *Error {
	return &Error{Kind: k, Op: op, Err: fmt.Errorf(format, args...)}
}

// WithRemedy adds how to mend it.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// WithEvidence adds what one side printed. Blank text is left out.
func (e *Error) WithEvidence(title, text string) *Error {
	if text = strings.TrimRight(text, "\n "); text != "" {
		e.Evidence = append(e.Evidence, Evidence{title, text})
	}
	return e
}

// KindOf is the kind of the outermost classified failure in err, of joined errors that of the first; Unknown if none
// is.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// Chain lists the classified failures in err, outermost first and joined errors one after another, so that a printer
// can show every remedy and all evidence.
func Chain(err error) []*Error {
	var all []*Error
	switch e := err.(type) { //nolint:errorlint // each layer is looked at by itself
	case *Error:
		all = append([]*Error{e}, Chain(e.Err)...)
	case interface{ Unwrap() error }:
		all = Chain(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, Chain(one)...)
		}
	}
	return all
}
