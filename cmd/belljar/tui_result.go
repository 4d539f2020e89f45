package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belljar/belljar/pipeline"
)

// printer writes results and errors for people.
type printer struct {
	w     io.Writer
	st    style
	width int // of the terminal; 0 where there is none
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.w, p.st.plain(fmt.Sprintf(format, args...)))
}

// coloured is line in one colour for its first words.
func (p *printer) coloured(sgr, head, format string, args ...any) {
	fmt.Fprintln(p.w, p.st.paint(sgr, p.st.plain(head))+p.st.plain(fmt.Sprintf(format, args...)))
}

// failure prints the error, what the failing side printed, and how to mend it.
func (p *printer) failure(r errorReport) {
	side := ""
	if r.side != "" {
		side = r.side + ": "
	}
	first, rest := splitLines(r.Message)
	p.coloured(bold+";"+red, "belljar: "+side, "%s", first)
	for _, line := range rest {
		p.line("%s", line)
	}
	for _, e := range r.Evidence {
		p.line("")
		p.coloured(bold, "  "+tidy(e.Title)+":", "")
		first, rest := splitLines(e.Text)
		for _, line := range append([]string{first}, rest...) {
			fmt.Fprintln(p.w, p.st.paint(dim, p.st.plain("    "+line)))
		}
	}
	if len(r.Evidence) > 0 {
		p.line("")
	}
	if r.Remedy != "" {
		for _, remedy := range strings.Split(r.Remedy, "\n") {
			p.coloured(green, "remedy: ", "%s", tidy(remedy))
		}
	}
	if r.Run != "" {
		p.coloured(dim, "run: ", "%s; 'belljar logs %s' shows all that it logged", r.Run, r.Run)
	}
}

// splitLines gives a text's lines, each safe to print.
func splitLines(text string) (first string, rest []string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		lines[i] = tidy(lines[i])
	}
	return lines[0], lines[1:]
}

// fold breaks a text that begins at column indent between words, so that it stays right of it.
func (p *printer) fold(text string, indent int) string {
	room := p.width - indent
	if room < 20 { // no terminal, or one too narrow for columns
		return text
	}
	var b strings.Builder
	left := room
	for i, word := range strings.Fields(text) {
		switch n := columns(word); {
		case i == 0:
			left -= n
		case n+1 > left:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			left = room - n
		default:
			b.WriteByte(' ')
			left -= n + 1
		}
		b.WriteString(word)
	}
	return b.String()
}

func (p *printer) checks(checks []pipeline.Check) {
	width, bad := 0, 0
	for _, c := range checks {
		width = max(width, columns(c.Name))
	}
	for _, c := range checks {
		sgr := green
		switch c.State {
		case "warn":
			sgr = yellow
		case "no":
			sgr = red
			bad++
		}
		indent := 4 + 2 + width + 2
		p.coloured(sgr, pad(c.State, 4), "  %s  %s", pad(c.Name, width), p.fold(tidy(c.Text), indent))
		if c.Remedy != "" {
			p.line("%s%s", strings.Repeat(" ", indent), p.fold("remedy: "+tidy(c.Remedy), indent))
		}
	}
	if bad > 0 {
		p.line("\nThis host cannot build yet: %s 'no'.", plural(bad, "check")+" said")
		return
	}
	p.line("\nThis host can build.")
}

func (p *printer) fetched(r *pipeline.FetchResult) {
	what := fmt.Sprintf("%s (%s) in the store", plural(r.Files, "file"), bytesText(r.Bytes))
	if r.Fetched == 0 {
		p.line("nothing to fetch: %s already", what)
		return
	}
	p.line("fetched %d: %s now", r.Fetched, what)
}

func (p *printer) built(r *pipeline.BuildResult) {
	for _, a := range r.Artifacts {
		p.coloured(bold, a.Name, "")
		p.line("  path    %s", a.Path)
		p.line("  sha256  %s", a.SHA256)
		p.line("  size    %d bytes (%s)", a.Size, bytesText(a.Size))
	}
	p.verdicts(r.Verdicts)
	if r.Ran != nil {
		p.coloured(bold, "ran", "     %s", p.ran(r.Ran))
	}
	p.coloured(bold, "record", "  %s", r.Record)
	if r.Cached {
		p.line("nothing changed: answered from the cache in %s", took(r.Took))
		return
	}
	p.line("%s in %s under %s, run %s", r.Spec, r.Guest, r.Accel, r.Run)
	p.parts(r.Parts, r.Took)
}

func (p *printer) ran(r *pipeline.Ran) string {
	text := fmt.Sprintf("%s from %s", plural(r.Programs, "program"), plural(r.Packages, "package"))
	if r.Made > 0 {
		text += fmt.Sprintf(", %d of its own making", r.Made)
	}
	return text
}

// parts is the table of what took how long.
func (p *printer) parts(parts []pipeline.Part, all time.Duration) {
	width := len("in all")
	for _, part := range parts {
		width = max(width, columns(partName(part)))
	}
	p.coloured(bold, "time", "")
	for _, part := range parts {
		p.line("  %s  %8s", pad(partName(part), width), took(part.Took))
	}
	p.line("  %s  %8s", pad("in all", width), took(all))
}

func partName(part pipeline.Part) string {
	return label(pipeline.Event{Phase: part.Phase, Name: part.Name})
}

// table lays rows out in columns; the last one is as long as it is, or folded where a terminal is wide enough.
func (p *printer) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		indent := 0
		for i, cell := range row {
			if i < len(row)-1 {
				cell = pad(cell, widths[i]+2)
				indent += widths[i] + 2
			} else {
				cell = p.fold(cell, indent)
			}
			b.WriteString(cell)
		}
		p.line("%s", strings.TrimRight(b.String(), " "))
	}
}

func (p *printer) cleaned(r *pipeline.CleanResult, dry bool) {
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	if r.Runs == 0 && r.Objects == 0 {
		p.line("nothing to remove")
		return
	}
	p.line("%s %s and %s: %s", verb, plural(r.Runs, "run"), plural(r.Objects, "object"), bytesText(r.Bytes))
}
