package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
)

// locked prints what became of a lock: the changes, a line each, under the guest that they are of, or under what they are.
func (p *printer) locked(r *pipeline.LockResult) {
	width := 0
	for _, c := range r.Details {
		width = max(width, columns(changed(c)))
	}
	heading := ""
	for _, c := range r.Details {
		if h := cmp.Or(c.Guest, c.Kind+"s"); h != heading {
			heading = h
			p.coloured(bold, h, "")
		}
		p.change(c, width)
	}
	if t := tally(r.Details); t != "" {
		p.line("%s", t)
	}
	what := fmt.Sprintf("%s, %s", plural(r.Packages, "package"), bytesText(r.Bytes))
	switch {
	case r.Written:
		p.line("wrote %s: %s", r.Path, what)
	case r.DryRun && len(r.Details) > 0:
		p.line("%s stays as it is, this was a dry run: %s would be locked", r.Path, what)
	case r.DryRun:
		p.line("nothing would change in %s (%s)", r.Path, what)
	default:
		p.line("nothing changed: %s stands (%s)", r.Path, what)
	}
}

// change is one line: a mark, what it is, the old and the new version.
func (p *printer) change(c specs.Change, width int) {
	mark, sgr, text := "~", "", ""
	switch c.What {
	case specs.Added:
		mark, sgr, text = "+", green, c.New
	case specs.Removed:
		mark, sgr, text = "-", red, c.Old
	case specs.Moved:
		text = fmt.Sprintf("%s, now from %s (was %s)", c.New, c.NewSuite, c.OldSuite)
	case specs.Rebuilt:
		text = c.New + ", the same version with other contents"
	default:
		text = c.Old + " → " + c.New
	}
	if c.Security && c.What != specs.Moved {
		text += "  security"
		sgr = yellow
	}
	if text == "" { // a whole guest
		p.coloured(sgr, "  "+mark+" "+tidy(changed(c)), "")
		return
	}
	p.coloured(sgr, "  "+mark+" "+pad(tidy(changed(c)), width), "  %s", tidy(text))
}

// changed names what a change is of.
func changed(c specs.Change) string { return cmp.Or(c.Name, c.Kind) }

// tally counts the changes of packages, kernels among them: "packages: 3 changed, 1 added; 1 of them for security".
func tally(changes []specs.Change) string {
	count := map[string]int{}
	security := 0
	for _, c := range changes {
		if c.Kind != "package" && c.Kind != "kernel" {
			continue
		}
		count[c.What]++
		if c.Security && c.What != specs.Removed {
			security++
		}
	}
	var parts []string
	for _, what := range []string{specs.Changed, specs.Added, specs.Removed, specs.Moved, specs.Rebuilt} {
		if n := count[what]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	switch {
	case parts == nil:
		return ""
	case security > 0:
		return fmt.Sprintf("packages: %s; %d of them for security", strings.Join(parts, ", "), security)
	}
	return "packages: " + strings.Join(parts, ", ")
}
