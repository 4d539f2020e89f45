package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
)

// fakeMain is belljar with a pipeline that plays the scenario named by $SCENARIO; $PACE slows its events down.
func fakeMain() {
	pace, _ := time.ParseDuration(os.Getenv("PACE"))
	std := streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(run(context.Background(), os.Args[1:], std, fakeAPI(os.Getenv("SCENARIO"), pace)))
}

var fakeRun = pipeline.RunInfo{
	ID: "20260102-030405-k3x7", What: "build seabios", State: "failed", Phase: "stage", Error: "script exited 3\nsecond line",
	Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Ended: time.Date(2026, 1, 2, 3, 5, 7, 0, time.UTC),
}

func fakeResult() *pipeline.BuildResult {
	return &pipeline.BuildResult{
		Run: fakeRun.ID, Spec: "seabios", Guest: "debian-bookworm-x86_64", Accel: "tcg",
		Artifacts: []pipeline.Artifact{{
			Name: "bios-256k.bin", Path: "out/bios-256k.bin", Size: 262144,
			SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		}},
		Verdicts: []pipeline.Verdict{
			{Test: "q35", Pass: true, Text: "banner, then the boot sector's line", Took: 2100 * time.Millisecond},
		},
		Record: "out/record.json",
		Parts: []pipeline.Part{
			{Phase: pipeline.PhaseFetch, Took: 1234 * time.Millisecond},
			{Phase: pipeline.PhaseStage, Name: "build", Took: 62 * time.Second},
		},
		Took: 65 * time.Second,
	}
}

// fakeError is what a scenario of that name ends with.
func fakeError(scenario string) error {
	deep := fault.New(fault.Build, "", "script exited 3").
		WithRemedy("look around with 'belljar build --keep' and 'belljar shell'").
		WithEvidence("the last lines of the stage", "cc -O2 -c a.c\na.c:1:\x1b[31m error\x1b[0m: no\a\n")
	switch scenario {
	case "usage":
		return fault.New(fault.Usage, "out", "not a folder")
	case "input":
		return fault.New(fault.Input, "read lock", "no digest for libc6")
	case "host":
		return fault.New(fault.Host, "start QEMU", "not found").WithRemedy("install qemu-system-x86")
	case "guest":
		return fault.New(fault.Guest, "boot", "kernel panic").WithEvidence("console", "Kernel panic - not syncing")
	case "build":
		outer := fault.New(fault.Build, "stage build", "%w", deep)
		return outer.WithRemedy("%s", deep.Remedy).WithEvidence("reproduce", "qemu-system-x86_64 -M q35").
			WithEvidence("again", deep.Evidence[0].Text)
	case "smoke":
		return fault.New(fault.Smoke, "smoke q35", "silence for 20s")
	case "internal":
		return errors.New("index out of range")
	}
	return nil
}

// fakeAPI plays one scenario, whatever the command.
func fakeAPI(scenario string, pace time.Duration) api {
	err := fakeError(scenario)
	return api{
		doctor: func(context.Context, pipeline.Config) ([]pipeline.Check, error) {
			checks := []pipeline.Check{{Name: "qemu", State: "ok", Text: "QEMU 7.2.22"}}
			if scenario == "broken-kvm" || scenario == "no-qemu" {
				checks = append(checks, pipeline.Check{Name: "accelerator", State: "warn", Text: "KVM does not work here; TCG will be used"})
			}
			if scenario == "no-qemu" {
				checks[0] = pipeline.Check{Name: "qemu", State: "no", Text: "not found", Remedy: "apt-get install qemu-system-x86"}
			}
			return checks, err
		},
		lock: func(_ context.Context, _ pipeline.Config, o pipeline.LockOptions) (*pipeline.LockResult, error) {
			r := &pipeline.LockResult{Path: o.Spec + ".lock.json", DryRun: o.DryRun, Packages: 171, Bytes: 123456789}
			if scenario == "changed" {
				r.Written, r.Details = !o.DryRun, fakeChanges
				for _, c := range r.Details {
					r.Changes = append(r.Changes, c.String())
				}
			}
			return r, err
		},
		fetch: func(context.Context, pipeline.Config, pipeline.FetchOptions) (*pipeline.FetchResult, error) {
			return &pipeline.FetchResult{Files: 171, Bytes: 123456789}, err
		},
		build: func(ctx context.Context, cfg pipeline.Config, o pipeline.BuildOptions) (*pipeline.BuildResult, error) {
			return fakeBuild(ctx, cfg, scenario, pace)
		},
		explain: func(_ context.Context, _ pipeline.Config, o pipeline.BuildOptions) (*pipeline.Explanation, error) {
			return fakeExplanation(o, scenario), err
		},
		shell: func(_ context.Context, cfg pipeline.Config, o pipeline.BuildOptions, t pipeline.ShellIO) (int, error) {
			return fakeShell(cfg, "guest of "+o.Spec, t)
		},
		shellInto: func(_ context.Context, cfg pipeline.Config, id string, t pipeline.ShellIO) (int, error) {
			return fakeShell(cfg, "kept "+id, t)
		},
		smoke: func(_ context.Context, _ pipeline.Config, o pipeline.SmokeOptions) ([]pipeline.Verdict, error) {
			if err != nil {
				return nil, err
			}
			return fakeVerdicts(o, scenario != "fails"), nil
		},
		runs: func(pipeline.Config) ([]pipeline.RunInfo, error) {
			if scenario == "live" {
				return []pipeline.RunInfo{fakeRun, {ID: "20260102-040000-live", What: "build toy", State: "running"}}, err
			}
			return []pipeline.RunInfo{fakeRun}, err
		},
		stop: func(_ context.Context, _ pipeline.Config, o pipeline.StopOptions) ([]pipeline.StopResult, error) {
			return fakeStop(o, scenario == "host"), err
		},
		logs: func(_ context.Context, _ pipeline.Config, id, part string, follow bool, w io.Writer) error {
			fmt.Fprintf(w, "run %s part %q follow %v\nraw \x1b[1m byte\n", id, part, follow)
			return err
		},
		clean: func(_ context.Context, _ pipeline.Config, o pipeline.CleanOptions) (*pipeline.CleanResult, error) {
			return &pipeline.CleanResult{Runs: int(o.OlderThan.Hours()), Objects: 1, Bytes: 2048}, err
		},
		imageBuild: func(_ context.Context, _ pipeline.Config, o pipeline.BuildOptions) (*pipeline.ImageResult, error) {
			r := &pipeline.ImageResult{ImageInfo: fakeImages()[1], Path: "/store/objects/9f/9f86d081884c", Cached: scenario == "cached"}
			if !r.Cached {
				r.Run, r.Accel, r.Parts = fakeRun.ID, "tcg", []pipeline.Part{{Phase: pipeline.PhaseUnpack, Took: 8 * time.Second}}
			}
			r.Took = 80 * time.Second
			return r, err
		},
		imageBoot: func(_ context.Context, _ pipeline.Config, o pipeline.BuildOptions) (*pipeline.BootResult, error) {
			return &pipeline.BootResult{
				Run: fakeRun.ID, Spec: o.Spec, Guest: "debian-bookworm-x86_64", Accel: "tcg", Start: pipeline.StartCold, Took: 3500 * time.Millisecond,
				Marks: []pipeline.Mark{{Name: pipeline.MarkInit, At: 2 * time.Second}, {Name: pipeline.MarkAgent, At: 3500 * time.Millisecond}},
			}, err
		},
		imageLayer: func(_ context.Context, _ pipeline.Config, o pipeline.LayerOptions) (*pipeline.LayerResult, error) {
			return &pipeline.LayerResult{
				Guest: "debian-bookworm-x86_64", Packages: 145, Ready: 69, Path: o.Out, Size: 353370112, Took: 4 * time.Second,
			}, err
		},
		images: func(pipeline.Config) ([]pipeline.ImageInfo, error) {
			if scenario == "none" {
				return nil, nil
			}
			return fakeImages(), err
		},
		specs:  func() []string { return []string{"seabios"} },
		guests: func() []string { return []string{"debian-bookworm-i686", "debian-bookworm-x86_64"} },
	}
}

// fakeExplanation has a stage of each kind.
func fakeExplanation(o pipeline.BuildOptions, scenario string) *pipeline.Explanation {
	x := &pipeline.Explanation{Spec: o.Spec, Guest: "debian-bookworm-x86_64", Known: scenario == "cached", Stages: []pipeline.ExplainedStage{
		{Name: "kit/tool#cc", Identity: "1", Cached: true, Reason: "nothing changed"},
	}}
	if x.Known {
		return x
	}
	script := pipeline.InputChange{Part: "script", Line: 3, Diff: " make\n-make install\n+make install-\x1b[1mstrip\n"}
	x.Stages = append(x.Stages,
		pipeline.ExplainedStage{Name: "payload", Identity: "2", Reason: "it was never built in this guest"},
		pipeline.ExplainedStage{Name: "rom", Identity: "3", Reason: "script: line 3 differs; package gcc: 1 → 2", Changes: []pipeline.InputChange{
			script, {Part: "package", Name: "gcc", Old: "1", New: "2"},
		}})
	for _, name := range o.Rerun {
		x.Stages = append(x.Stages, pipeline.ExplainedStage{Name: name, Identity: "4", Reason: "asked for with --no-cache"})
	}
	return x
}

// fakeStop ends each run in another way, in the order in which they are named; where one failed, the first has ended.
func fakeStop(o pipeline.StopOptions, failed bool) []pipeline.StopResult {
	var all []pipeline.StopResult
	for i, id := range o.Runs {
		r := fakeRun
		r.ID = id
		r.State = []string{"cancelled", "dead", "passed", "dead", "dead"}[i]
		how := []string{"stopped", "killed", "over", "dead", "stopped"}[i]
		all = append(all, pipeline.StopResult{RunInfo: r, How: how, Took: o.Wait / 25})
	}
	if failed {
		return all[:1]
	}
	return all
}

// fakeImages are an image from before uses were noted, and one of today.
func fakeImages() []pipeline.ImageInfo {
	return []pipeline.ImageInfo{
		{Digest: "6e2be5502d005c713dcfff76fe253dd18b037c5679c3461a9e8bb84f05312721", Size: 382730240, Missing: true},
		{
			Digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Size: 382730240,
			RootHash: "cafe", Guest: "debian-bookworm-x86_64", Specs: []string{"my-board", "seabios"}, Packages: 145,
			Made: fakeRun.Started, Used: fakeRun.Ended,
		},
	}
}

// fakeShell ends with the exit code that is typed.
func fakeShell(cfg pipeline.Config, what string, t pipeline.ShellIO) (int, error) {
	cfg.Report(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseBoot})
	cfg.Report(pipeline.Event{Kind: pipeline.PhaseEnd, Phase: pipeline.PhaseBoot})
	line, _ := bufio.NewReader(t.In).ReadString('\n')
	fmt.Fprintf(t.Out, "%s: %s", what, line)
	code, _ := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "exit "))
	return code, nil
}

// fakeBuild reports a build's events, one every pace.
func fakeBuild(ctx context.Context, cfg pipeline.Config, scenario string, pace time.Duration) (*pipeline.BuildResult, error) {
	r := fakeResult()
	if scenario == "cached" {
		r.Cached, r.Run, r.Took = true, "", 120*time.Millisecond
		return r, nil
	}
	if scenario == "keep" {
		cfg.Report(pipeline.Event{Kind: pipeline.Warning, Text: "the guest is kept"})
		fmt.Fprintln(os.Stderr, "pid "+strconv.Itoa(os.Getpid()))
		<-ctx.Done()
		return &pipeline.BuildResult{Run: fakeRun.ID, Kept: true}, fakeError("build")
	}
	if scenario == "hang" {
		cfg.Report(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseStage, Name: "build"})
		fmt.Fprintln(os.Stderr, "pid "+strconv.Itoa(os.Getpid()))
		<-ctx.Done()
		time.Sleep(pace) // the time that cleaning up takes
		return &pipeline.BuildResult{Run: fakeRun.ID}, fault.New(fault.Guest, "stage build", "%w", ctx.Err()).WithRemedy("do not say this")
	}
	err := fakeError(scenario)
	for _, ev := range fakeEvents(err == nil) {
		if pace > 0 {
			select {
			case <-ctx.Done():
				return &pipeline.BuildResult{Run: fakeRun.ID}, ctx.Err()
			case <-time.After(pace):
			}
		}
		cfg.Report(ev)
	}
	if err != nil {
		return &pipeline.BuildResult{Run: fakeRun.ID}, err
	}
	return r, nil
}

// fakeEvents are a build's events; an unhappy one ends within its stage.
func fakeEvents(happy bool) []pipeline.Event {
	var evs []pipeline.Event
	add := func(ev pipeline.Event) { evs = append(evs, ev) }
	add(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseFetch, Text: "171 files, 118 MiB"})
	for i := range 20 {
		add(pipeline.Event{Kind: pipeline.Progress, Phase: pipeline.PhaseFetch, Done: int64(i) << 22, Total: 20 << 22, Unit: "bytes"})
	}
	add(pipeline.Event{Kind: pipeline.PhaseEnd, Phase: pipeline.PhaseFetch, Text: "all there", Took: 4200 * time.Millisecond})
	add(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseAccel, Text: "does KVM work?"})
	add(pipeline.Event{Kind: pipeline.Warning, Phase: pipeline.PhaseAccel, Text: "KVM does not work here: a kernel did not boot within 10s. TCG is used"})
	add(pipeline.Event{Kind: pipeline.PhaseEnd, Phase: pipeline.PhaseAccel, Text: "TCG", Took: 10 * time.Second})
	add(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseStage, Name: "build", Text: "SeaBIOS for QEMU"})
	for i := range 20 {
		add(pipeline.Event{
			Kind: pipeline.LogLine, Phase: pipeline.PhaseStage, Name: "build",
			Text: fmt.Sprintf("  Compiling to assembler \x1b[1mout/src/file%d.o\x1b[0m\twith a rather long line that goes on and on until it must be cut", i),
		})
	}
	if !happy {
		return evs
	}
	add(pipeline.Event{Kind: pipeline.PhaseEnd, Phase: pipeline.PhaseStage, Name: "build", Text: "bios-256k.bin", Took: 62 * time.Second})
	add(pipeline.Event{Kind: pipeline.PhaseStart, Phase: pipeline.PhaseSmoke, Name: "q35", Text: "boot it"})
	add(pipeline.Event{Kind: pipeline.PhaseEnd, Phase: pipeline.PhaseSmoke, Name: "q35", Text: "pass", Took: 2100 * time.Millisecond})
	return evs
}

// fakeChanges are one of each kind.
var fakeChanges = []specs.Change{
	{Kind: "spec", Name: "roms/toy", What: specs.Added, New: "0f1e2d3c4b5a"},
	{Kind: "source", Name: "seabios", What: specs.Changed, Old: "1.16.2-1", New: "1.16.3-1"},
	{Guest: "debian-bookworm-x86_64", Kind: "snapshot", What: specs.Changed, Old: "20260901T000000Z", New: "20261101T000000Z"},
	{Guest: "debian-bookworm-x86_64", Kind: "kernel", What: specs.Changed, Old: "linux-image-6.1.0-40-amd64 6.1.153-1",
		New: "linux-image-6.1.0-41-amd64 6.1.158-1", NewSuite: "bookworm-security", Security: true},
	{Guest: "debian-bookworm-x86_64", Kind: "package", Name: "libc6", What: specs.Changed, Old: "2.36-9", New: "2.36-10"},
	{Guest: "debian-bookworm-x86_64", Kind: "package", Name: "libnew1", What: specs.Added, New: "1.0-1"},
	{Guest: "debian-bookworm-x86_64", Kind: "package", Name: "libold0", What: specs.Removed, Old: "0.9-1"},
	{Guest: "debian-bookworm-x86_64", Kind: "package", Name: "tzdata", What: specs.Moved, Old: "2026b-0", New: "2026b-0",
		OldSuite: "bookworm-updates", NewSuite: "bookworm"},
}

// fakeVerdicts are one that passed, or did not, and as many boots of it as were asked for.
func fakeVerdicts(o pipeline.SmokeOptions, pass bool) []pipeline.Verdict {
	v := pipeline.Verdict{
		Test: "q35", ROM: "/roms/" + o.Args[len(o.Args)-1], Pass: pass, Text: "the text", Took: time.Second, File: "/runs/x/verdict.json",
		Steps: []pipeline.Outcome{
			{Step: "^one", Pass: true, Line: "one \x1b[31mred", At: 120 * time.Millisecond, Note: "it runs"},
			{Step: "^two", Pass: pass, At: 300 * time.Millisecond, Note: "it runs on"},
			{Step: "reboot", Pass: pass, Line: "the machine reset itself", At: 2 * time.Second},
		},
	}
	if !pass {
		v.Screen = "/runs/x/screen.png"
	}
	if o.Count > 1 {
		v.Spread = &pipeline.Spread{Boots: o.Count, Passed: o.Count - 1, Steps: []pipeline.StepSpread{
			{Step: "^one", Came: o.Count, Fastest: 100 * time.Millisecond, Slowest: 1500 * time.Millisecond}, {Step: "^two"},
		}}
	}
	return []pipeline.Verdict{v}
}
