package main

import (
	"context"
	"io"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
)

// api is what the commands call. Tests put their own functions here.
type api struct {
	doctor  func(context.Context, pipeline.Config) ([]pipeline.Check, error)
	lock    func(context.Context, pipeline.Config, pipeline.LockOptions) (*pipeline.LockResult, error)
	fetch   func(context.Context, pipeline.Config, pipeline.FetchOptions) (*pipeline.FetchResult, error)
	build   func(context.Context, pipeline.Config, pipeline.BuildOptions) (*pipeline.BuildResult, error)
	explain func(context.Context, pipeline.Config, pipeline.BuildOptions) (*pipeline.Explanation, error)
	shell   func(context.Context, pipeline.Config, pipeline.BuildOptions, pipeline.ShellIO) (int, error)

	shellInto func(context.Context, pipeline.Config, string, pipeline.ShellIO) (int, error)
	smoke     func(context.Context, pipeline.Config, pipeline.SmokeOptions) ([]pipeline.Verdict, error)
	runROM    func(context.Context, pipeline.Config, pipeline.RunROMOptions, pipeline.ShellIO) error
	runs      func(pipeline.Config) ([]pipeline.RunInfo, error)
	stop      func(context.Context, pipeline.Config, pipeline.StopOptions) ([]pipeline.StopResult, error)
	logs      func(ctx context.Context, cfg pipeline.Config, id, part string, follow bool, w io.Writer) error
	clean     func(context.Context, pipeline.Config, pipeline.CleanOptions) (*pipeline.CleanResult, error)

	imageBuild   func(context.Context, pipeline.Config, pipeline.BuildOptions) (*pipeline.ImageResult, error)
	imageBoot    func(context.Context, pipeline.Config, pipeline.BuildOptions) (*pipeline.BootResult, error)
	imageLayer   func(context.Context, pipeline.Config, pipeline.LayerOptions) (*pipeline.LayerResult, error)
	images       func(pipeline.Config) ([]pipeline.ImageInfo, error)
	imageList    func(ctx context.Context, cfg pipeline.Config, ref pipeline.ImageRef, path string, recursive bool) ([]pipeline.ImageFile, error)
	imageInspect func(context.Context, pipeline.Config, pipeline.ImageRef, bool) (*pipeline.ImageReport, error)
	imageCat     func(ctx context.Context, cfg pipeline.Config, ref pipeline.ImageRef, path string, w io.Writer) error
	imageDiff    func(context.Context, pipeline.Config, pipeline.ImageDiffOptions) (*pipeline.ImageDiff, error)
	imageExport  func(context.Context, pipeline.Config, pipeline.ExportOptions) (*pipeline.ExportResult, error)

	rom func(path string) (*pipeline.ROM, error)
	pcr func(path string) (*pipeline.PCRs, error)

	stages      func(cfg pipeline.Config, spec string) ([]pipeline.StageInfo, error)
	stageExport func(context.Context, pipeline.Config, pipeline.StageExportOptions) (*pipeline.StageExportResult, error)
	stageImport func(ctx context.Context, cfg pipeline.Config, file string) (*pipeline.StageInfo, error)

	specs  func() []string // names of the shipped specs, for completion
	guests func() []string // names of the shipped guests, for completion
}

// defaultAPI is the pipeline itself.
func defaultAPI() api {
	return api{
		doctor:    pipeline.Doctor,
		lock:      pipeline.Lock,
		fetch:     pipeline.Fetch,
		build:     pipeline.Build,
		explain:   pipeline.Explain,
		shell:     pipeline.Shell,
		shellInto: pipeline.ShellInto,
		smoke:     pipeline.Smoke,
		runROM:    pipeline.RunROM,
		runs:      pipeline.Runs,
		stop:      pipeline.Stop,
		logs:      pipeline.Logs,
		clean:     pipeline.Clean,

		imageBuild:   pipeline.ImageBuild,
		imageBoot:    pipeline.ImageBoot,
		imageLayer:   pipeline.Layer,
		images:       pipeline.Images,
		imageList:    pipeline.ImageList,
		imageInspect: pipeline.ImageInspect,
		imageCat:     pipeline.ImageCat,
		imageDiff:    pipeline.CompareImages,
		imageExport:  pipeline.ImageExport,

		rom: pipeline.LookAtROM,
		pcr: pipeline.PredictPCRs,

		stages:      pipeline.Stages,
		stageExport: pipeline.StageExport,
		stageImport: pipeline.StageImport,

		specs:  specs.Shipped,
		guests: specs.ShippedGuests,
	}
}
