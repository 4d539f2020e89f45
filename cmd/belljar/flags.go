package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
)

// accel is a flag's value that takes auto, kvm or tcg and nothing else.
type accel vm.Accel

func (a *accel) String() string { return string(*a) }
func (a *accel) Type() string   { return "accel" }
func (a *accel) Set(s string) error {
	switch vm.Accel(s) {
	case vm.Auto, vm.KVM, vm.TCG:
		*a = accel(s)
		return nil
	}
	return fmt.Errorf("must be auto, kvm or tcg")
}

func accelFlag(c *cobra.Command, to *vm.Accel) {
	c.Flags().Var((*accel)(to), "accel", "`auto|kvm|tcg`; auto takes KVM where it is proven to work")
	values := []string{"auto", "kvm", "tcg"}
	must(c.RegisterFlagCompletionFunc("accel", cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
}

// choice is a flag's value that takes some words and no other.
type choice struct {
	to    *string
	words []string
}

func (c *choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}
func (c *choice) Type() string { return "choice" }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("must be %s", strings.Join(c.words, " or "))
	}
	*c.to = s
	return nil
}

// size is a flag's value: a size as specs write it.
type size specs.Size

func (s *size) Type() string { return "size" }
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return specs.Size(*s).String()
}

func (s *size) Set(text string) error {
	if err := (*specs.Size)(s).UnmarshalText([]byte(text)); err != nil {
		return err
	}
	if *s <= 0 || specs.Size(*s)%specs.MiB != 0 {
		return fmt.Errorf("must be a multiple of 1MiB")
	}
	return nil
}

// limit is a flag's value: a longest time; 0 is whatever stands elsewhere.
type limit time.Duration

func (l *limit) Type() string { return "time" }
func (l *limit) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

func (l *limit) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > 24*time.Hour {
		return fmt.Errorf("must be a time such as 90s or 5m, at most 24h")
	}
	*l = limit(d)
	return nil
}

// age is a flag's value: a duration that may be given in days.
type age time.Duration

func (a *age) Type() string { return "age" }

func (a *age) String() string {
	d := time.Duration(*a)
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

func (a *age) Set(s string) error {
	const most = 36500 // days: a century is for ever, and a time.Duration ends at 292 years
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > most {
			return fmt.Errorf("must be an age such as 12h or 7d")
		}
		*a = age(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("must be an age such as 12h or 7d")
	}
	*a = age(d)
	return nil
}

// noCache is --no-cache, which alone means every stage, and with a value the stage of that name.
type noCache struct{ o *pipeline.BuildOptions }

// everyStage is what the flag's library hands over where no value was given; it is no stage's name.
const everyStage = "*"

func (n noCache) String() string { return "" }
func (n noCache) Type() string   { return "stage" }
func (n noCache) Set(s string) error {
	switch s {
	case "":
		return fmt.Errorf("must be followed by the name of a stage, or by nothing")
	case everyStage:
		n.o.NoCache = true
	default:
		n.o.Rerun = append(n.o.Rerun, s)
	}
	return nil
}

func noCacheFlag(f *pflag.FlagSet, o *pipeline.BuildOptions) {
	f.Var(noCache{o}, "no-cache", "run every `stage`, even if its result is known, or the one that is named\n"+
		"(STAGE or SPEC#STAGE); what it makes is held against what it made before")
	f.Lookup("no-cache").NoOptDefVal = everyStage
}

// completeSpec offers the shipped specs, and files.
func (e *env) completeSpec(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.api.specs(), cobra.ShellCompDirectiveDefault
}

func (e *env) completeGuest(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return e.api.guests(), cobra.ShellCompDirectiveDefault
}

// completeRun offers 'last' and the ids of runs, each with what it did.
func (e *env) completeRun(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return append([]string{"last"}, e.runIDs()...), cobra.ShellCompDirectiveNoFileComp
}

// runIDs lists runs for the shell's completion, where the flags' hooks have not run: a failure is just no offer.
func (e *env) runIDs() []string { return e.runsThat(func(pipeline.RunInfo) bool { return true }) }

func (e *env) liveRuns() []string { return e.runsThat(isLive) }

func (e *env) runsThat(fit func(pipeline.RunInfo) bool) []string {
	if !e.findDir() {
		return nil
	}
	runs, err := e.api.runs(e.cfg)
	if err != nil {
		return nil
	}
	var ids []string
	for _, r := range runs {
		if fit(r) {
			ids = append(ids, r.ID+"\t"+r.What+", "+r.State)
		}
	}
	return ids
}

// findDir sees to it that Belljar's folder is known where the flags' hooks have not run.
func (e *env) findDir() bool {
	if e.cfg.Dir == "" {
		dir, err := (&globals{}).folder(e.getenv)
		if err != nil {
			return false
		}
		e.cfg.Dir = dir
	}
	return true
}

func (e *env) completeFlag(c *cobra.Command, name string, f cobra.CompletionFunc) {
	must(c.RegisterFlagCompletionFunc(name, f))
}

// must stands where only a wrong flag name in this program could fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// notNil makes an empty list of no list, so that JSON says [] and not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
