package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const docsFile = "../../docs/cli.md"

// TestDocs holds docs/cli.md to the definitions of the commands; with -update it writes it.
func TestDocs(t *testing.T) {
	root := newRoot(&env{api: fakeAPI("", 0), screen: newScreen(streams{}), getenv: func(string) string { return "" }})
	want := docs(root)
	if *update {
		if err := os.WriteFile(docsFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/cli.md is not what the commands say; run 'go test ./cmd/belljar -run TestDocs -update':\n%s", d)
	}
}

// docs is the reference of the command line, in Markdown.
func docs(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString("<!-- Generated from the commands' definitions: go test ./cmd/belljar -run TestDocs -update -->\n\n")
	b.WriteString("# The command line\n\n" + root.Long + "\n")
	fmt.Fprintf(&b, "\n| command | what it does |\n|---|---|\n")
	for _, c := range allCommands(root) {
		if c.Runnable() {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
		}
	}
	b.WriteString("\n## Flags of every command\n\n" + flagTable(root.PersistentFlags()))
	b.WriteString(outputText)
	b.WriteString("\n## Exit codes\n\n| code | name | meaning |\n|---|---|---|\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", e.code, e.name, e.text)
	}
	b.WriteString("\nThe same table: `belljar help exit-codes`. Only the faults of the host and of the guest may go away when the same\n" +
		"command is run again with nothing changed.\n")
	for _, c := range allCommands(root) {
		if !c.Runnable() {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", c.CommandPath())
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(&b, "    %s\n\n%s\n", c.UseLine(), text)
		if c.Example != "" {
			fmt.Fprintf(&b, "\nFor example:\n\n%s\n", indent(c.Example))
		}
		if table := flagTable(c.LocalNonPersistentFlags()); table != "" {
			b.WriteString("\n" + table)
		}
		fmt.Fprintf(&b, "\nExit codes: %s.\n", exitList(strings.TrimPrefix(c.CommandPath(), "belljar ")))
	}
	return b.Bytes()
}

// allCommands are the commands in the order of the help, each before those below it.
func allCommands(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			all = append(append(all, sub), allCommands(sub)...)
		}
	}
	return all
}

// exitsOf are the codes that a command can end with, beside 0, 1, 2 and 130, with which each one can.
var exitsOf = map[string][]int{
	"doctor": {exitInput, exitHost},
	"lock":   {exitInput, exitHost},
	"fetch":  {exitInput, exitHost},
	"build":  {exitInput, exitHost, exitGuest, exitBuild, exitSmoke},
	"shell":  {exitInput, exitHost, exitGuest},
	"smoke":  {exitInput, exitHost, exitSmoke},
	"rom":    {exitInput, exitHost},
	"pcr":    {exitInput, exitHost},
	"run":    {exitInput, exitHost, exitGuest},
	"runs":   {exitInput, exitHost},
	"stop":   {exitInput, exitHost},
	"logs":   {exitInput, exitHost},
	"clean":  {exitInput, exitHost},

	"image build":   {exitInput, exitHost, exitGuest},
	"image boot":    {exitInput, exitHost, exitGuest},
	"image layer":   {exitInput, exitHost},
	"image ls":      {exitInput, exitHost},
	"image inspect": {exitInput, exitHost, exitDiffers},
	"image cat":     {exitInput, exitHost},
	"image diff":    {exitInput, exitHost, exitDiffers},
	"image export":  {exitInput, exitHost},
}

func exitList(command string) string {
	var out []string
	for _, e := range exits {
		always := e.code <= exitUsage || e.code == exitInterrupted
		for _, code := range exitsOf[command] {
			always = always || code == e.code
		}
		if always {
			out = append(out, fmt.Sprintf("%d %s", e.code, e.name))
		}
	}
	return strings.Join(out, ", ")
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		arg, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			text += " (default " + f.DefValue + ")"
		}
		if arg != "" && f.NoOptDefVal != "" {
			name, arg = name+"[="+arg+"]", ""
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimSpace(name+" "+strings.ReplaceAll(arg, "|", `\|`)), text)
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | meaning |\n|---|---|\n" + b.String()
}

// indent makes a block of code of an example, whose own indentation is two.
func indent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = "    " + strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

const outputText = `
## What it prints

Progress and errors go to stderr, results to stdout.

- **On a terminal** the phases that are done scroll by, each with its time; below them stand the phase that goes on, its progress, and
  the last line that the guest printed. Without a UTF-8 locale ASCII stands in for the marks.
- **In a pipe** there is a line for the start (` + "`--`" + `) and the end (` + "`ok`, `xx`" + `) of each phase, one every 10 seconds for progress, and each
  log line after ` + "`  | `" + `.
- **With ` + "`--json`" + `** everything goes to stdout, one object a line. Its ` + "`kind`" + ` is that of an event (` + "`start`, `end`, `progress`, `log`, `note`," + `
  ` + "`warning`" + `), or, in the last line, ` + "`result` or `error`" + `:

` + "```json" + `
{"time":"2026-01-02T03:04:05Z","kind":"progress","phase":"fetch","done":4194304,"total":83886080,"unit":"bytes"}
{"kind":"result","command":"build","result":{"run":"…","spec":"seabios","artifacts":[{"name":"…","path":"…","sha256":"…","size":262144}]}}
{"kind":"error","error":{"kind":"build","op":"stage build","message":"…","remedy":"…","exit_code":6,"run":"…","evidence":[{"title":"…","text":"…"}]}}
` + "```" + `

An error says which side failed, what that side printed, and how to mend it. The first Ctrl-C (or SIGTERM) stops the work and cleans up;
the second one ends the program at once.
`
