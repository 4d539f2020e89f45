package main

import (
	"time"

	"github.com/belljar/belljar/pipeline"
)

func (p *printer) runs(runs []pipeline.RunInfo, now time.Time) {
	if len(runs) == 0 {
		p.line("no runs yet")
		return
	}
	rows := [][]string{{"RUN", "STATE", "STARTED", "TOOK", "WHAT"}}
	for _, r := range runs {
		length := ""
		switch {
		case isLive(r):
			length = elapsed(now.Sub(r.Started))
		case !r.Ended.IsZero() && !r.Started.IsZero():
			length = took(r.Ended.Sub(r.Started))
		}
		rows = append(rows, []string{r.ID, stateText(r, now), dateText(r.Started), length, whatText(r)})
	}
	p.table(rows)
}

func isLive(r pipeline.RunInfo) bool { return r.State == "running" }

// stateText is how a run is, and in the midst of what: 'running (stage build for 12s)', 'dead (boot)'.
func stateText(r pipeline.RunInfo, now time.Time) string {
	state := r.State
	switch {
	case isLive(r) && !r.Stopping.IsZero():
		state = "stopping"
	case isLive(r) && r.Kept != "":
		state = "kept"
	}
	if r.Phase == "" || r.State == "passed" {
		return state
	}
	doing := label(pipeline.Event{Phase: pipeline.Phase(r.Phase), Name: r.Name})
	if isLive(r) && !r.Since.IsZero() {
		doing += " for " + elapsed(now.Sub(r.Since))
	}
	return state + " (" + tidy(doing) + ")"
}

// whatText is what a run was for, what went wrong, and what can be done about it.
func whatText(r pipeline.RunInfo) string {
	what := tidy(r.What)
	if what == "" {
		what = "?" // killed before it could say
	}
	if r.Error != "" {
		first, _ := splitLines(r.Error)
		what += ": " + first
	}
	switch {
	case isLive(r) && r.Kept != "":
		what += "; enter its guest: belljar shell " + r.ID
	case r.State == "dead" && !r.Swept.IsZero():
		what += "; what it left is swept"
	}
	return what
}

// dateText is a moment in the user's own time; nothing where it is not known.
func dateText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (p *printer) stopped(results []pipeline.StopResult) {
	if len(results) == 0 {
		p.line("no run is live")
	}
	for _, r := range results {
		p.line("%s", stopText(r))
	}
}

// stopText says how a run came to its end.
func stopText(r pipeline.StopResult) string {
	switch {
	case r.How == "killed":
		return r.ID + ": did not end when asked, and was killed; what it left is swept"
	case r.How == "dead":
		return r.ID + ": was dead already: its process ended without a word; what it left is swept"
	case r.How == "over":
		return r.ID + ": is over already: " + r.State + " at " + dateText(r.Ended)
	case r.State == "dead":
		return r.ID + ": died of being asked to stop; what it left is swept"
	}
	return r.ID + ": stopped in " + took(r.Took) + ": " + tidy(r.What) + " " + r.State
}
