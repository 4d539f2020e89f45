package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/belljar/belljar/fault"
)

// globals are the flags of every command.
type globals struct {
	dir     string
	mirrors []string
	config  string
	json    bool
	quiet   bool
	noColor bool
}

// newRoot is the whole command line.
func newRoot(e *env) *cobra.Command {
	var g globals
	root := &cobra.Command{
		Use:   "belljar",
		Short: "Build firmware inside sealed virtual machines, and prove that it boots",
		Long: `Belljar builds firmware inside a sealed virtual machine and tells, with evidence, what came out.

It makes the guest's disks from pinned Debian packages, runs the build in a machine without a network card, boots the
finished ROM in a second machine, and hands it over only if that boot went well.`,
		Example: `  belljar doctor
  belljar build seabios`,
		Version:       versionString(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			e.parsed = true
			return g.apply(e)
		},
	}
	root.SetVersionTemplate("belljar {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	g.flags(root.PersistentFlags())
	root.SetHelpCommand(newHelp())
	root.AddCommand(
		newDoctor(e), newLock(e), newFetch(e), newBuild(e), newShell(e), newSmoke(e), newRun(e),
		newROM(e), newPCR(e), newImage(e), newStage(e), newRuns(e), newStop(e), newLogs(e), newClean(e), newVersion(e),
		&cobra.Command{
			Use:   "exit-codes",
			Short: "What the exit codes mean",
			Long:  "Every command ends with one of these exit codes:\n\n" + exitTable(),
		},
	)
	return root
}

func (g *globals) flags(f *pflag.FlagSet) {
	f.StringVar(&g.dir, "dir", "", "Belljar's own `folder`: store, runs, what it learnt of this host\n"+
		"(default $BELLJAR_DIR, else ${XDG_CACHE_HOME:-~/.cache}/belljar)")
	f.StringArrayVar(&g.mirrors, "mirror", nil, "`URL` or folder of a Debian mirror, may be given more than once\n"+
		"(default $BELLJAR_MIRROR, space-separated, else this machine's own)")
	f.StringVar(&g.config, "config", "", "config `file`\n"+
		"(default $BELLJAR_CONFIG, else ${XDG_CONFIG_HOME:-~/.config}/belljar/config.yaml)")
	f.BoolVar(&g.json, "json", false, "print one JSON event a line, and the result as the last one")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print warnings, errors and the result only")
	f.BoolVar(&g.noColor, "no-color", false, "print no colours (so does $NO_COLOR, or TERM=dumb)")
	f.SortFlags = false
}

// apply turns flags and environment into the configuration and the screen.
func (g *globals) apply(e *env) error {
	e.screen.configure(screenOptions{json: g.json, quiet: g.quiet, noColor: g.noColor})
	dir, err := g.folder(e.getenv)
	if err != nil {
		return err
	}
	e.cfg.Dir = dir
	e.cfg.Mirrors = g.mirrors
	if len(g.mirrors) == 0 {
		e.cfg.Mirrors = strings.Fields(e.getenv("BELLJAR_MIRROR"))
	}
	if e.cfg.Config, err = g.configFile(e.getenv); err != nil {
		return err
	}
	e.cfg.Version = version()
	e.cfg.Report = e.screen.report
	return nil
}

func (g *globals) folder(getenv func(string) string) (string, error) {
	dir := g.dir
	if dir == "" {
		dir = getenv("BELLJAR_DIR")
	}
	if dir == "" {
		cache, err := xdg(getenv, "XDG_CACHE_HOME", ".cache")
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "belljar")
	}
	return filepath.Abs(dir)
}

// configFile is the config file's path, or nothing: the default one may be missing, one that was named may not.
func (g *globals) configFile(getenv func(string) string) (string, error) {
	path := g.config
	if path == "" {
		path = getenv("BELLJAR_CONFIG")
	}
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fault.New(fault.Input, "read config", "%w", err).
				WithRemedy("name a file that exists with --config, or leave it out")
		}
		return path, nil
	}
	if base, err := xdg(getenv, "XDG_CONFIG_HOME", ".config"); err == nil { // no home, no default
		path = filepath.Join(base, "belljar", "config.yaml")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", nil
}

// xdg is a base folder of the XDG Base Directory Specification: relative paths in the variable are to be ignored.
func xdg(getenv func(string) string, name, under string) (string, error) {
	if dir := getenv(name); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", fault.New(fault.Host, "find home", "neither HOME nor %s is set", name).
			WithRemedy("set HOME, or name a folder with --dir")
	}
	return filepath.Join(home, under), nil
}
