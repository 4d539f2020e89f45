package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/belljar/belljar/fault"
)

// newHelp is cobra's help command, but an unknown topic is a usage error.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say more about a command, or about exit-codes",
		ValidArgsFunction: func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return commandNames(c.Root()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			topic, rest, err := c.Root().Find(args)
			if err != nil || topic == c.Root() && len(rest) > 0 {
				return unknownCommand(c.Root(), args)
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

// unknownCommand is the arguments' check of a command that only has others: any argument is one that does not exist.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fault.New(fault.Usage, "", "no command %q", strings.Join(append(strings.Fields(c.CommandPath())[1:], args[0]), " "))
	help := "'" + strings.Join(append([]string{"belljar", "help"}, strings.Fields(c.CommandPath())[1:]...), " ") + "' lists the commands"
	if near := nearest(args[0], commandNames(c)); near != "" {
		return err.WithRemedy("did you mean '%s %s'? %s", c.CommandPath(), near, help)
	}
	return err.WithRemedy("%s", help)
}

func commandNames(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// flagError makes a usage error of what the flag library says, with the nearest flag where there is one.
func flagError(c *cobra.Command, err error) error {
	help := "'" + c.CommandPath() + " --help' lists the flags"
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return fault.New(fault.Usage, "", "%w", err).WithRemedy("%s", help)
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	name := missing.GetSpecifiedName()
	out := fault.New(fault.Usage, "", "no flag --%s", name)
	if missing.GetSpecifiedShortnames() != "" {
		return fault.New(fault.Usage, "", "no flag -%s", name).WithRemedy("%s", help)
	}
	if near := nearest(name, names); near != "" {
		return out.WithRemedy("did you mean --%s? %s", near, help)
	}
	return out.WithRemedy("%s", help)
}

// arguments checks how many there are, and says what they are for.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		var err *fault.Error
		switch {
		case len(args) < least:
			err = fault.New(fault.Usage, "", "'%s' needs %s", c.CommandPath(), what)
		case len(args) > most && most == 0:
			err = fault.New(fault.Usage, "", "'%s' takes no argument, not %q", c.CommandPath(), args[0])
		case len(args) > most:
			err = fault.New(fault.Usage, "", "'%s' takes %s, not %q as well", c.CommandPath(), what, args[most])
		default:
			return nil
		}
		return err.WithRemedy("usage: %s", c.UseLine())
	}
}

// usage is an error of the command line.
func usage(format string, args ...any) error { return fault.New(fault.Usage, "", format, args...) }

// nearest is the name closest to word, or nothing if none is close: one edit for every three letters, or a prefix.
func nearest(word string, names []string) string {
	best, least := "", 1+(len(word)+2)/3
	for _, name := range slices.Sorted(slices.Values(names)) {
		d := distance(word, name)
		if len(word) > 1 && strings.HasPrefix(name, word) {
			d = min(d, 1)
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: Levenshtein's, with two swapped neighbours as one edit.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// wantsJSON looks for --json before the flags are parsed, so that a usage error takes that shape as well.
func wantsJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}
