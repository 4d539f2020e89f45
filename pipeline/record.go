package pipeline

import (
	"context"
	"slices"
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
	p := j.asked.plan
	b := verify.Build{
		RunID: j.run.ID(), BelljarVersion: j.Version, QEMUVersion: j.qemu, Started: j.started, Finished: time.Now(),
		Spec:  verify.Input{Name: p.loaded.Spec.Name, SHA256: p.lock.Spec.Digest},
		Lock:  lockInput(p),
		Guest: p.guest.Name,
		Machine: verify.Machine{
			Arch: p.locked.Arch, Type: p.locked.Machine, CPU: p.locked.CPU, CPUs: p.guest.CPUs,
			Memory: int64(p.guest.Memory), Clock: p.locked.Clock,
		},
		Agent: verify.Input{Name: "guest-agent", SHA256: j.agent},
		Host:  thisHost(), Backend: ran,
		Accel:       verify.Accel{Name: string(j.asked.decision.Accel), Reason: j.unnamed(j.asked.decision.Reason)},
		Confinement: j.confined.holds(),
	}
	for _, p := range p.all() {
		b.Inputs = append(b.Inputs, lockedInputs(p)...)
		if p != j.asked.plan {
			b.NeededLocks = append(b.NeededLocks, lockInput(p))
		}
	}
	b.Inputs = onlyOnce(b.Inputs)
	imaged := map[*jar]bool{}
	for _, n := range j.nodes {
		r := n.result
		if !imaged[n.jar] { // all stages of a jar run in one image
			imaged[n.jar] = true
			if n.jar == j.asked {
				b.Image = n.imageInputs("")
			} else {
				b.NeededImages = append(b.NeededImages, n.imageInputs(n.loaded.Spec.Name+": ")...)
			}
		}
		bs := verify.BuildStage{
			Name: n.name(), Identity: n.id, Cached: !n.must, Start: r.Start, Wall: r.Wall, Usage: usage(r.Usage),
			Programs: r.Programs,
		}
		if r.Imported != nil {
			bs.Imported = r.Imported.File
		}
		for _, o := range r.Outputs {
			bs.Outputs = append(bs.Outputs, verify.Input{Name: o.Path, SHA256: string(o.Digest), Size: o.Size})
		}
		b.Stages = append(b.Stages, bs)
		b.Seal = r.Seal
	}
	for _, n := range j.logged() {
		b.Logs = append(b.Logs, verify.Input{Name: n.logName(), SHA256: string(n.result.Log)})
	}
	for _, a := range p.loaded.Spec.Artifacts {
		o := j.stage(a.Stage).result.output(a.Path)
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

func lockInput(p *plan) verify.Input {
	return verify.Input{Name: p.loaded.Spec.Name + ".lock.json", SHA256: p.lock.Digest()}
}

// lockedInputs are the packages and sources that a lock pins for a guest.
func lockedInputs(p *plan) []verify.Input {
	var all []verify.Input
	for _, lp := range p.locked.Packages {
		all = append(all, verify.Input{
			Name: debName(lp), URI: verify.PackageURL(lp.Name, lp.Version, lp.Arch), SHA256: lp.SHA256, Size: lp.Size,
		})
	}
	for _, src := range p.lock.Sources {
		for _, f := range src.Files {
			all = append(all, verify.Input{Name: f.Name, URI: sourceURI(src, f), SHA256: f.SHA256, Size: f.Size})
		}
	}
	return all
}

// onlyOnce drops inputs that are there already: most packages are those of needed specs too.
func onlyOnce(all []verify.Input) []verify.Input {
	seen := map[verify.Input]bool{}
	return slices.DeleteFunc(all, func(in verify.Input) bool {
		before := seen[in]
		seen[in] = true
		return before
	})
}

// imageInputs say what the stage's guest was booted from.
func (n *node) imageInputs(prefix string) []verify.Input {
	u := n.result.Image
	return []verify.Input{
		{Name: prefix + "root", SHA256: string(u.Root), Size: u.Size},
		{Name: prefix + "root hash (dm-verity)", SHA256: u.RootHash},
		{Name: prefix + "kernel " + n.locked.Kernel.Release, SHA256: string(u.Kernel)},
		{Name: prefix + "initramfs", SHA256: string(u.Initramfs)},
	}
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
