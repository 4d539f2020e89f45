package main

import (
	"strings"

	"github.com/belljar/belljar/pipeline"
)

// maxChanges is how many of a stage's changes are listed; --json has all.
const maxChanges = 12

// explained prints what a build would run, a line a stage, and under each that must run what changed.
func (p *printer) explained(x *pipeline.Explanation) {
	width := 0
	for _, s := range x.Stages {
		width = max(width, columns(tidy(s.Name)))
	}
	run := 0
	for _, s := range x.Stages {
		state, sgr := "cached  ", green
		if !s.Cached {
			state, sgr = "must run", yellow
			run++
		}
		name := tidy(s.Name)
		p.coloured(sgr, state, "  %s%s  %s", name, strings.Repeat(" ", width-columns(name)), tidy(s.Reason))
		p.inputChanges(s.Changes)
	}
	switch {
	case run > 0:
		p.line("%s of %d would run in %s", plural(run, "stage"), len(x.Stages), x.Guest)
	case x.Known:
		p.line("nothing changed: the build would be answered from the cache")
	default:
		p.line("no stage would run: what they made would be booted and handed over")
	}
}

func (p *printer) inputChanges(changes []pipeline.InputChange) {
	for i, c := range changes {
		if i == maxChanges {
			p.line("            and %d more changes (--json lists all)", len(changes)-i)
			return
		}
		if len(changes) > 1 || c.Diff != "" {
			p.line("            %s", tidy(c.String()))
		}
		for l := range strings.Lines(c.Diff) {
			sgr := map[byte]string{'-': red, '+': green}[l[0]]
			p.coloured(sgr, "            "+tidy(l), "")
		}
	}
}
