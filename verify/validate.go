package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Validate names every missing or odd field, each with its path in the JSON.
func (r *Record) Validate() error {
	var c checker
	def, run := &r.Predicate.BuildDefinition, &r.Predicate.RunDetails
	c.is("_type", r.Type, StatementType)
	c.is("predicateType", r.PredicateType, PredicateType)
	c.is("predicate.buildDefinition.buildType", def.BuildType, BuildType)
	if len(r.Subject) == 0 {
		c.odd("subject", "empty: a record is about at least one artifact")
	}
	c.resources("subject", r.Subject)
	c.unique("subject", r.Subject)

	ext := "predicate.buildDefinition.externalParameters"
	c.resource(ext+".spec", def.ExternalParameters.Spec)
	c.given(ext+".guest", def.ExternalParameters.Guest)
	internal := "predicate.buildDefinition.internalParameters"
	c.resource(internal+".lock", def.InternalParameters.Lock)
	c.resources(internal+".neededLocks", def.InternalParameters.NeededLocks)
	c.machine(internal+".machine", def.InternalParameters.Machine)
	c.resources("predicate.buildDefinition.resolvedDependencies", def.ResolvedDependencies)

	c.is("predicate.runDetails.builder.id", run.Builder.ID, BuilderID)
	c.given("predicate.runDetails.builder.version.belljar", run.Builder.Version["belljar"])
	c.given("predicate.runDetails.builder.version.qemu", run.Builder.Version["qemu"])
	c.given("predicate.runDetails.metadata.invocationId", run.Metadata.InvocationID)
	if run.Metadata.StartedOn.IsZero() {
		c.odd("predicate.runDetails.metadata.startedOn", "missing")
	}
	if run.Metadata.FinishedOn.Before(run.Metadata.StartedOn) {
		c.odd("predicate.runDetails.metadata.finishedOn", "before startedOn")
	}
	c.resources("predicate.runDetails.byproducts", run.Byproducts)

	c.build(r.Predicate.BuildEvidence)
	c.run(r)
	return errors.Join(c.all...)
}

// checker collects what is odd.
type checker struct{ all []error }

func (c *checker) odd(field, format string, args ...any) {
	c.all = append(c.all, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (c *checker) is(field, got, want string) {
	if got != want {
		c.odd(field, "is %q, expected %q", got, want)
	}
}

func (c *checker) given(field, got string) {
	if got == "" {
		c.odd(field, "missing")
	}
}

func (c *checker) oneOf(field, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		c.odd(field, "is %q, expected one of %q", got, allowed)
	}
}

func (c *checker) digest(field, got string) {
	if raw, err := hex.DecodeString(got); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != got {
		c.odd(field, "is %q, expected a SHA-256 as 64 lower-case hex digits", got)
	}
}

func (c *checker) resource(field string, r Resource) {
	c.given(field+".name", r.Name)
	c.digest(field+".digest.sha256", r.Digest.SHA256)
}

func (c *checker) resources(field string, rs []Resource) {
	for i, r := range rs {
		c.resource(fmt.Sprintf("%s[%d]", field, i), r)
	}
	if !slices.IsSortedFunc(rs, compareResources) {
		c.odd(field, "is not sorted by name, URI and digest")
	}
}

func (c *checker) unique(field string, rs []Resource) {
	for i := 1; i < len(rs); i++ {
		if rs[i].Name == rs[i-1].Name {
			c.odd(field, "names %q twice", rs[i].Name)
		}
	}
}

func (c *checker) machine(field string, m Machine) {
	c.oneOf(field+".arch", m.Arch, "x86_64", "i686")
	c.given(field+".type", m.Type)
	c.given(field+".cpu", m.CPU)
	if m.CPU == "host" || m.CPU == "max" {
		c.odd(field+".cpu", "is %q, which means another CPU on every host; expected a named model", m.CPU)
	}
	if m.CPUs < 1 {
		c.odd(field+".cpus", "is %d, expected at least 1", m.CPUs)
	}
	if m.Memory < 1<<20 {
		c.odd(field+".memory", "is %d bytes, expected at least 1 MiB", m.Memory)
	}
	if m.Clock.IsZero() {
		c.odd(field+".clock", "missing")
	}
	c.given(field+".network", m.Network)
}

func (c *checker) build(b BuildEvidence) {
	if len(b.Image) == 0 {
		c.odd("predicate.belljar_build.image", "empty")
	}
	c.resources("predicate.belljar_build.image", b.Image)
	c.resources("predicate.belljar_build.neededImages", b.NeededImages)
	c.resource("predicate.belljar_build.agent", b.Agent)
	if len(b.Stages) == 0 {
		c.odd("predicate.belljar_build.stages", "empty: nothing was built")
	}
	for i, s := range b.Stages {
		at := fmt.Sprintf("predicate.belljar_build.stages[%d]", i)
		c.given(at+".name", s.Name)
		c.digest(at+".identity", s.Identity)
		c.resources(at+".outputs", s.Outputs)
		c.unique(at+".outputs", s.Outputs)
	}
}

func (c *checker) run(r *Record) {
	e, at := r.Predicate.RunEvidence, "predicate.belljar_run"
	c.given(at+".host.os", e.Host.OS)
	c.given(at+".host.arch", e.Host.Arch)
	c.backend(at+".backend", e.Backend)
	c.oneOf(at+".accelerator.name", e.Accel.Name, "kvm", "tcg")
	c.given(at+".accelerator.reason", e.Accel.Reason)
	if !bytes.HasPrefix(bytes.TrimSpace(e.Seal), []byte("{")) {
		c.odd(at+".seal", "is no object: the build has no proof that its guest was sealed")
	}
	if len(e.Stages) != len(r.Predicate.BuildEvidence.Stages) {
		c.odd(at+".stages", "has %d stages, belljar_build has %d", len(e.Stages), len(r.Predicate.BuildEvidence.Stages))
	}
	for i, s := range e.Stages[:min(len(e.Stages), len(r.Predicate.BuildEvidence.Stages))] {
		c.is(fmt.Sprintf("%s.stages[%d].name", at, i), s.Name, r.Predicate.BuildEvidence.Stages[i].Name)
		c.programs(fmt.Sprintf("%s.stages[%d].programs", at, i), s.Programs, r.Predicate.BuildDefinition.ResolvedDependencies)
	}
	for i, s := range e.Smoke {
		c.smoke(fmt.Sprintf("%s.smoke[%d]", at, i), s, r.Subject)
	}
	for i, t := range e.Timing {
		c.given(fmt.Sprintf("%s.timing[%d].part", at, i), t.Part)
	}
}

// backend: a libvirt whose version and transport are not told is not told at all.
func (c *checker) backend(at string, b Backend) {
	c.oneOf(at+".name", b.Name, "qemu", "libvirt")
	if b.Name == "libvirt" {
		c.given(at+".version", b.Version)
		c.oneOf(at+".transport", b.Transport, "unix", "tcp", "ssh")
	}
}

// smoke holds a verdict against the subjects: a boot of other bytes proves nothing about these.
func (c *checker) smoke(at string, s Smoke, subjects []Resource) {
	c.given(at+".name", s.Name)
	c.given(at+".machine", s.Machine)
	c.given(at+".reason", s.Reason)
	i := slices.IndexFunc(subjects, func(r Resource) bool { return r.Name == s.Artifact })
	switch {
	case i < 0:
		c.odd(at+".artifact", "is %q, which is no subject of this record", s.Artifact)
	case subjects[i].Digest.SHA256 != s.SHA256:
		c.odd(at+".sha256", "is %q, but the subject %s has %s: other bytes were booted",
			s.SHA256, s.Artifact, subjects[i].Digest.SHA256)
	}
	if s.Pass && len(s.Matches) == 0 {
		c.odd(at+".matches", "empty in a passed test: nothing was seen")
	}
}
