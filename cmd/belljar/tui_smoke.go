package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/pipeline"
)

// verdicts are those of a build: a line each.
func (p *printer) verdicts(verdicts []pipeline.Verdict) {
	for _, v := range verdicts {
		p.verdict("smoke   ", tidy(v.Test), v)
	}
}

func (p *printer) verdict(indent, what string, v pipeline.Verdict) {
	word, sgr := "pass", green
	if !v.Pass {
		word, sgr = "FAIL", red
	}
	p.coloured(bold, indent, "%s %s", p.st.paint(sgr, word), what+": "+tidy(v.Text)+" ("+took(v.Took)+")")
}

// smoked are the verdicts of 'belljar smoke': what came when, and what did not.
func (p *printer) smoked(verdicts []pipeline.Verdict) {
	for i, v := range verdicts {
		if i > 0 {
			p.line("")
		}
		p.verdict("", tidy(filepath.Base(v.ROM))+", "+tidy(v.Test), v)
		if v.Spread == nil {
			p.steps(v.Steps)
		} else {
			p.spread(v.Spread)
		}
		if v.Screen != "" {
			p.coloured(dim, "  screen   ", "%s", tidy(v.Screen))
		}
		if v.File != "" {
			p.coloured(dim, "  verdict  ", "%s", tidy(v.File))
		}
	}
	if len(verdicts) > 1 {
		bad := 0
		for _, v := range verdicts {
			if !v.Pass {
				bad++
			}
		}
		p.line("\n%d of %s passed", len(verdicts)-bad, plural(len(verdicts), "test"))
	}
}

// steps are a line each: when, what came, and what it proves. Behind the first that never came stand those that it kept
// from their turn.
func (p *printer) steps(steps []pipeline.Outcome) {
	missing := false
	for _, s := range steps {
		when, what := fmt.Sprintf("%.2f s", s.At.Seconds()), s.Line
		if !s.Pass {
			when, what = "never", s.Step
		}
		head := fmt.Sprintf("  %8s  ", when)
		text := shorten(tidy(what), 90)
		if s.Note != "" {
			text = pad(text, 44) + "  " + tidy(s.Note)
		}
		switch {
		case s.Pass:
			p.coloured("", head, "%s", text)
		case !missing:
			p.coloured(red, head, "%s", text)
		default:
			p.coloured(dim, head, "%s", text)
		}
		missing = missing || !s.Pass
	}
}

// spread is a table of how much boots differ.
func (p *printer) spread(s *pipeline.Spread) {
	rows := [][]string{{"  fastest", "slowest", "boots", "step"}}
	for _, step := range s.Steps {
		fastest, slowest := "-", "-"
		if step.Came > 0 {
			fastest, slowest = fmt.Sprintf("%.2f s", step.Fastest.Seconds()), fmt.Sprintf("%.2f s", step.Slowest.Seconds())
		}
		rows = append(rows, []string{"  " + fastest, slowest, fmt.Sprintf("%d of %d", step.Came, s.Boots), shorten(tidy(step.Step), 90)})
	}
	p.table(rows)
}

// shorten keeps a line within so many columns.
func shorten(s string, most int) string {
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
