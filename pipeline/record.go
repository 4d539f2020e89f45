package pipeline

import (
	"context"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/verify"
)

// record says what was built, from what, where and how it booted.
func (j *job) record(ctx context.Context) (*verify.Record, error) {
	ran, err := j.recorded(ctx)
	if err != nil {
		return nil, err
	}
	p := j.plan
	b := verify.Build{
		RunID: j.run.ID(), BelljarVersion: j.Version, QEMUVersion: j.qemu, Started: j.started, Finished: time.Now(),
		Spec:  verify.Input{Name: p.loaded.Spec.Name, SHA256: p.lock.Spec.Digest},
		Lock:  verify.Input{Name: p.loaded.Spec.Name + ".lock.json", SHA256: string(digestOf(p.lock.Marshal()))},
		Guest: p.guest.Name,
		Machine: verify.Machine{
			Arch: p.locked.Arch, Type: p.locked.Machine, CPU: p.locked.CPU, CPUs: p.guest.CPUs,
			Memory: int64(p.guest.Memory), Clock: p.locked.Clock,
		},
		Image: []verify.Input{
			{Name: "root", SHA256: string(j.image.Root), Size: j.image.Size},
			{Name: "root hash (dm-verity)", SHA256: j.image.RootHash},
			{Name: "kernel " + p.locked.Kernel.Release, SHA256: string(j.bundle.Kernel)},
			{Name: "initramfs", SHA256: string(j.bundle.Initramfs)},
		},
		Agent: verify.Input{Name: "guest-agent", SHA256: j.agent},
		Host:  thisHost(), Backend: ran,
		Accel:       verify.Accel{Name: string(j.decision.Accel), Reason: j.unnamed(j.decision.Reason)},
		Confinement: j.confined.holds(),
	}
	for _, lp := range p.locked.Packages {
		b.Inputs = append(b.Inputs, verify.Input{
			Name: debName(lp), URI: verify.PackageURL(lp.Name, lp.Version, lp.Arch), SHA256: lp.SHA256, Size: lp.Size,
		})
	}
	for _, src := range p.lock.Sources {
		for _, f := range src.Files {
			in := verify.Input{Name: f.Name, URI: sourceURI(src, f), SHA256: f.SHA256, Size: f.Size}
			b.Inputs = append(b.Inputs, in)
		}
	}
	for _, s := range inOrder(p.loaded.Spec.Stages) {
		r := j.stages[s.Name]
		bs := verify.BuildStage{Name: s.Name, Identity: j.ids.stages[s.Name], Cached: r.cached, Start: r.Start, Wall: r.Wall}
		for _, o := range r.Outputs {
			bs.Outputs = append(bs.Outputs, verify.Input{Name: o.Path, SHA256: string(o.Digest), Size: o.Size})
		}
		b.Stages = append(b.Stages, bs)
		b.Seal = r.Seal
		b.Logs = append(b.Logs, verify.Input{Name: logName(s.Name), SHA256: string(r.Log)})
	}
	for _, a := range p.loaded.Spec.Artifacts {
		o := j.stages[a.Stage].output(a.Path)
		b.Artifacts = append(b.Artifacts, verify.Input{Name: a.Name, SHA256: string(o.Digest), Size: o.Size})
	}
	for _, v := range j.verdicts {
		b.Smoke = append(b.Smoke, j.smokeEvidence(v))
	}
	for _, part := range j.parts {
		t := verify.Timing{Part: joined(string(part.Phase), part.Name), WallMS: part.Took.Milliseconds()}
		b.Timing = append(b.Timing, t)
	}
	rec := verify.NewRecord(b)
	if err := rec.Validate(); err != nil {
		return nil, fault.New(fault.Unknown, "write record", "%w", err)
	}
	return rec, nil
}

func (h *house) smokeEvidence(v namedVerdict) verify.Smoke {
	s := verify.Smoke{
		Name: v.Test, Artifact: v.artifact, SHA256: v.ROM.SHA256, Machine: v.Machine.Type, CPU: v.Machine.CPU,
		Memory: v.Machine.Memory, Accel: string(v.Machine.Accel),
		Pass: v.Pass, Reason: v.Reason, TookMS: v.Took.Milliseconds(),
		ConsoleTail: v.ConsoleTail, CommandLine: h.unnamed(v.CommandLine),
	}
	for _, m := range v.Matches {
		s.Matches = append(s.Matches, verify.ConsoleMatch{Pattern: m.Pattern, Line: m.Line, AtMS: m.At.Milliseconds()})
	}
	return s
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + " " + b
}

// sourceURI says where a source's file may be had.
func sourceURI(s specs.LockedSource, f specs.File) string {
	switch s.Kind {
	case specs.KindDebian:
		return verify.PackageURL(s.Package, s.Version, "source")
	case specs.KindGit:
		return "git+" + f.URL + "@" + s.Commit
	}
	return f.URL
}
