package main

import (
	"cmp"
	"strconv"
	"strings"
	"time"

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

func (p *printer) stages(stages []pipeline.StageInfo) {
	if len(stages) == 0 {
		p.line("no stages yet: 'belljar build SPEC' makes some")
		return
	}
	rows := [][]string{{"IDENTITY", "STAGE", "GUEST", "OUTPUTS", "SIZE", "MADE", "USED"}}
	when := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Local().Format("2006-01-02 15:04:05")
	}
	for _, s := range stages {
		size := bytesText(s.Size)
		if s.Missing {
			size = "gone"
		}
		made := when(s.Made)
		if s.Imported != nil {
			made += ", imported"
		}
		rows = append(rows, []string{
			shortDigest(s.Identity), tidy(cmp.Or(s.Stage, "-")), tidy(cmp.Or(s.Guest, "-")), strconv.Itoa(len(s.Outputs)), size, made, when(s.Used),
		})
	}
	p.table(rows)
}

func (p *printer) stage(s *pipeline.StageInfo) {
	p.line("  identity   %s", s.Identity)
	p.line("  guest      %s", tidy(s.Guest))
	for _, o := range s.Outputs {
		p.line("  output     %s  sha256 %s, %d bytes", tidy(o.Path), o.SHA256, o.Size)
	}
}

func (p *printer) stageExported(r *pipeline.StageExportResult) {
	p.coloured(bold, r.Format, "  %s", r.Path)
	p.line("  stage      %s", tidy(r.Stage))
	p.stage(&r.StageInfo)
	p.line("  sha256     %s", r.SHA256)
	p.line("  size       %d bytes (%s)", r.Bytes, bytesText(r.Bytes))
}

func (p *printer) stageImported(s *pipeline.StageInfo) {
	p.coloured(bold, tidy(s.Stage), "")
	p.stage(s)
	if s.Imported == nil {
		p.line("it was built here, with the same outputs: nothing changed")
		return
	}
	p.line("its outputs are what its manifest says. That they came of this identity is the word of whoever made %s", tidy(s.Imported.File))
}
